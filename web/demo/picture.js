// Pictures: a small preview travels with the message; the picture itself would be in the application's media store,
// which the demo doesn't have.

const PREVIEW = 200;

async function preview(bitmap, width, height) {
  const scale = Math.min(1, PREVIEW / Math.max(width, height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/jpeg", 0.7);
}

const address = (name) => `https://media.invalid/${crypto.randomUUID?.() ?? Date.now()}/${encodeURIComponent(name)}`;

/** The media of a file that somebody chose. */
export async function fromFile(file) {
  const bitmap = await createImageBitmap(file);
  try {
    const { width, height } = bitmap;
    const media = { url: address(file.name), preview: await preview(bitmap, width, height), mime: file.type || "image/*", size: file.size, width, height };
    return { ...media, name: file.name.slice(0, 100) };
  } finally {
    bitmap.close();
  }
}

/** A lake in the morning, drawn here: no file needed. */
export async function drawn() {
  const [width, height] = [640, 400];
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const pen = canvas.getContext("2d");
  const fill = (colours, top, bottom) => {
    const gradient = pen.createLinearGradient(0, top, 0, bottom);
    colours.forEach((colour, i) => gradient.addColorStop(i / (colours.length - 1), colour));
    pen.fillStyle = gradient;
  };
  fill(["#27374f", "#8b6f84", "#f0b27a", "#fbe3b5"], 0, 230);
  pen.fillRect(0, 0, width, 230);
  pen.fillStyle = "#fff3d6";
  pen.beginPath();
  pen.arc(430, 190, 34, 0, 7);
  pen.fill();
  for (const [colour, base, high] of [["#5d5a77", 232, 90], ["#3d435f", 236, 58]]) {
    pen.fillStyle = colour;
    pen.beginPath();
    pen.moveTo(0, base);
    for (let x = 0; x <= width; x += 8) pen.lineTo(x, base - high * Math.abs(Math.sin(x / 97 + high) * Math.cos(x / 211)));
    pen.lineTo(width, base);
    pen.fill();
  }
  fill(["#f2c48d", "#7d7590", "#2c3a55"], 230, height);
  pen.fillRect(0, 230, width, height - 230);
  pen.fillStyle = "#ffe9c466";
  for (let y = 238; y < height; y += 9) pen.fillRect(430 - (y - 225) * 0.5, y, (y - 225) * 0.9, 3);
  return { url: address("lake.jpg"), preview: await preview(canvas, width, height), mime: "image/jpeg", size: 48_210, width, height, name: "lake.jpg" };
}

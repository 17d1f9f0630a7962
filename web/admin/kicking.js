// Closing all sockets of a user.

import { call } from "./api.js";
import { h } from "/shared/dom.js";
import { stumble } from "./ending.js";
import { note } from "./parts.js";
import { openSheet } from "./sheet.js";

/** @param {() => void} after when the sheet is closed */
export function kickUser(user, after) {
  const sheet = openSheet(after);
  const title = `Close all sockets of ${user}?`;
  const close = (words, className = "button") => h("button", { type: "button", class: className, key: "close", onclick: () => sheet.close() }, words);
  const kick = async (event) => {
    event.currentTarget.disabled = true;
    try {
      const { connected } = await call("POST", `/admin/v1/users/${encodeURIComponent(user)}/kick`, { body: {}, signal: sheet.signal });
      sheet.show(connected === 0
        ? { step: "done", title: "Nobody was connected", foot: close("Done", "button button--primary"),
          body: note("", "info", h("p", null, `No device of ${user} was connected, so there was nothing to close.`)) }
        : { step: "done", title: "Sockets are closed", foot: close("Done", "button button--primary"),
          body: note("good", "check", h("p", null, h("strong", null, "Every edge is told. "), `The sockets of ${user} close within moments, with 4410.`)) });
    } catch (problem) {
      stumble(sheet, problem, title, () => kickUser(user, after));
    }
  };
  sheet.show({
    step: "preview", title,
    body: [
      h("p", null, "All of the user’s phones and web windows are disconnected, on every edge, with the code 4410."),
      h("p", null, "Nothing is deleted: devices, tokens and queues stay. The apps connect again when the user asks them to."),
    ],
    foot: [close("Leave them"), h("button", { type: "button", class: "button button--danger", key: "kick", onclick: kick }, "Close the sockets")],
  });
}

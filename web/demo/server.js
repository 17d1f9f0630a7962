// The two calls that are the demo's own and not the SDK's: made-up users, and a look at the own queues.

/** Two made-up users; null: this server has no playground. */
export async function playground() {
  const answer = await fetch("/v1/playground", { method: "POST", headers: { "content-type": "application/json" }, body: "{}" });
  if (answer.status === 404) return null;
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail ?? body.title);
  return body;
}

/** Whether this server makes up users: only then may an address say who somebody is. */
export async function hasPlayground() {
  const answer = await fetch("/v1/playground");
  return answer.ok;
}

/** What stands in the queues of a device, chat by chat; null: it can't be seen now. */
export async function channels(device, token, signal) {
  const answer = await fetch(`/v1/devices/${device}/channels?limit=50`, { headers: { authorization: `Bearer ${token}` }, signal });
  return answer.ok ? answer.json() : null;
}

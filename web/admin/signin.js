// Signing in: an admin token, pasted, tried once, kept in this tab only.

import { Refusal, get, session } from "./api.js";
import { h } from "/shared/dom.js";
import { copyButton, icon, note } from "./parts.js";

const COMMAND = "keepstep token --user root --admin --ttl 8h";
let refused = null;
let trying = false;

/**
 * @param {{notice: Refusal|null, entered: () => void, redraw: () => void}} how `notice`: why the last session ended
 */
export function signIn({ notice, entered, redraw }) {
  const submit = async (event) => {
    event.preventDefault();
    if (trying) return;
    const field = event.currentTarget.elements.token;
    const token = field.value.trim().replace(/^bearer\s+/i, "").replace(/\s+/g, "");
    try {
      if (!/^[\w-]+\.[\w-]+\.[\w-]+$/.test(token)) {
        throw new Refusal(0, "shape", token ? "This isn’t a token: that would be three parts with dots between them, beginning with “ey”." : "Paste a token first.", "Copy the whole line that the command prints.");
      }
      trying = true;
      refused = null;
      redraw();
      await get("/admin/v1/overview", { token });
      session.keep(token);
      field.value = "";
      trying = false;
      entered();
    } catch (problem) {
      if (!(problem instanceof Refusal)) throw problem;
      trying = false;
      refused = problem;
      redraw();
      field.focus();
      field.select();
    }
  };
  return h("div", { class: "signin", key: "sign-in" },
    h("h1", { tabindex: -1 }, "Sign in"),
    notice ? note("warning", "alert", h("p", null, h("strong", null, "You were signed out. "), notice.words), h("p", null, notice.hint)) : null,
    h("form", { class: "card signin__form", onsubmit: submit, novalidate: true },
      h("label", { class: "field" }, h("span", null, "Admin token"),
        h("input", { class: "input mono", name: "token", type: "password", autocomplete: "off", spellcheck: "false", autocapitalize: "off",
          placeholder: "ey…", "aria-describedby": refused ? "token-refused token-kept" : "token-kept", "aria-invalid": refused ? "true" : null })),
      refused ? h("div", { class: "note note--danger", id: "token-refused", role: "alert", key: "refused" },
        icon("alert"), h("div", { class: "note__body" }, h("p", null, h("strong", null, refused.words)), h("p", null, refused.hint))) : null,
      h("button", { class: "button button--primary", type: "submit", key: "submit", "aria-disabled": trying ? "true" : null }, trying ? "Trying the token…" : "Sign in"),
      h("p", { class: "small quiet", id: "token-kept", key: "kept" }, "The token stays in this tab. Closing the tab or signing out forgets it.")),
    h("section", { class: "signin__help", "aria-label": "How to get a token" },
      h("h2", null, "No token at hand?"),
      h("p", null, "Where the server’s secret is set (", h("code", null, "KEEPSTEP_JWT_SECRET"), "), this prints one that is good for eight hours:"),
      h("p", { class: "command" }, h("code", null, COMMAND.split(" ").map((word, n) => [n ? " " : null, h("span", { class: "word" }, word)])), copyButton("Copy the command", COMMAND)),
      h("p", { class: "small quiet" }, "With an identity provider of your own: any token that it signs with the claim ", h("code", null, "\"admin\": true"), ".")));
}

// Whom others may reach: invitations that wait for an answer, and blocks.
import { part } from "./http.js";

export const invitations = (api) => api.list("/v1/invitations");

export const accept = (api, chat) => api.call("POST", `/v1/invitations/${part(chat)}/accept`, { again: true });

/** Not repeated by itself: the second answer to one that was heard is `not_found`. */
export const decline = (api, chat) => api.call("POST", `/v1/invitations/${part(chat)}/decline`);

export const blocks = (api) => api.list("/v1/blocks");

export const block = (api, user) => api.call("PUT", `/v1/blocks/${part(user)}`);

export const unblock = (api, user) => api.call("DELETE", `/v1/blocks/${part(user)}`);

/** The event of an `invitation` frame. */
export const told = ({ type, ...news }) => news;

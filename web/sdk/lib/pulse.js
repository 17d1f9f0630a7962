// Whether a connection still carries anything. A line that has gone half-open says nothing by itself, so it is asked: after
// a time of silence, when a question waits too long, and whenever the page or the machine may have slept.
//
// Two things are told apart. A line of which nothing has been heard for too long is in *doubt*: it isn't shown as connected. It is *dead*
// when it hasn't answered a ping in time. On a line that is slow and alive the second takes longer than the first: a large
// frame may be on its way for many seconds, and tearing the line then would only send the frame on its way again.
import { hidden, moment, onWake, since } from "./wake.js";

/** Silence until a line is asked for a sign of life, where somebody may be looking. */
const SILENCE = 5_000;
/** A question without an answer for so long is a reason to ask, whatever else is heard. */
const UNANSWERED = 5_000;
/** A line that brings frames and no answer at all is given up after this: what is said on it goes nowhere. */
const ONE_WAY = 30_000;
/** However slow a line was, its answer isn't waited for longer than this. */
const PATIENCE_MOST = 30_000;
/** Between two looks at the clock; one that comes so much later was asleep. */
const TICK = 1_000;
const LATE = 1_500;

/** How slow the lines of a client have been, over all its connections: a slow one gets more time, or none would ever do. */
export class Slowness {
  #ms = 0;

  /** What a ping took that was answered. */
  took(ms) {
    this.#ms = Math.max(ms, this.#ms / 2);
  }

  /** One wasn't answered in time. */
  gaveUp(patience) {
    this.#ms = Math.max(this.#ms, patience);
  }

  /** For the answer to a ping. `least`: on a line that was never slow. */
  patience(least) {
    return Math.min(Math.max(least, 2 * this.#ms), Math.max(least, PATIENCE_MOST));
  }
}

export class Pulse {
  #timing;
  #heartbeat;
  #slowness;
  #acts;
  #timer = null;
  #end;
  #looked = moment();
  #heard = moment();
  /** When the ping went out since which nothing has come; else null. */
  #pinged = null;
  /** It went out anew, because its time had passed in sleep. */
  #again = false;
  /** When the first ping went out that hasn't been answered; else null. */
  #owed = null;
  /** Since when a question waits, and no answer to any has come; else null. */
  #asked = null;
  #doubtful = false;

  /** `acts`: `ping()` sends one, `doubt(yes)` is called when it turns, `dead()` once, at the end. */
  constructor({ timing, heartbeat, slowness, acts }) {
    this.#timing = timing;
    this.#heartbeat = heartbeat;
    this.#slowness = slowness;
    this.#acts = acts;
    this.#end = onWake(() => this.ask());
    this.#tick();
  }

  /** Anything came. `answer`: it is one, to a question or a ping; `waiting`: so many questions are left. */
  heard({ answer = false, waiting = 0 } = {}) {
    this.#heard = moment();
    this.#pinged = null;
    this.#again = false;
    if (answer) {
      if (this.#owed) this.#slowness.took(since(this.#owed));
      this.#owed = null;
      this.#asked = waiting > 0 ? moment() : null;
    }
    this.#doubt(false);
  }

  /** A question went out. */
  question() {
    this.#asked ??= moment();
  }

  /** Looks now, and asks for a sign of life: there is a reason to. */
  ask() {
    if (this.#end === null) return;
    if (this.#look() && !this.#pinged) this.#ping();
  }

  /** Looks only if there is something to be seen: for those who want to know how it is at this moment. */
  glance() {
    if (this.#end !== null && !this.#doubtful && since(this.#heard) >= this.#trusted()) this.#look();
  }

  stop() {
    clearTimeout(this.#timer);
    this.#end?.();
    this.#end = null;
  }

  /** Silence until it is asked. Where nobody looks, the server's own rhythm will do. */
  #silence() {
    return this.#timing.silence ?? (hidden() ? this.#heartbeat : Math.min(this.#heartbeat, SILENCE));
  }

  /** For how long after a sign of life a line counts as connected. */
  #trusted() {
    return this.#silence() + this.#timing.patience;
  }

  #tick() {
    if (!this.#look()) return;
    const quiet = since(this.#heard);
    const answer = this.#pinged ? this.#slowness.patience(this.#timing.patience) - since(this.#pinged) : 0;
    const due = [this.#silence() - quiet, this.#trusted() - quiet, answer].filter((ms) => ms > 0);
    this.#timer = setTimeout(() => this.#tick(), Math.max(10, Math.min(TICK, ...due)));
  }

  /** True: it isn't over. */
  #look() {
    const late = since(this.#looked) > TICK + LATE;
    this.#looked = moment();
    const quiet = since(this.#heard);
    if (quiet >= this.#trusted()) this.#doubt(true);
    if (this.#end === null) return false; // somebody who was told of the doubt has ended it
    // What went by in sleep is nobody's silence: it is asked once more, and judged by that.
    const slept = late && !this.#again;
    if (slept) this.#owed = null;
    if (this.#pinged && !slept) {
      if (since(this.#pinged) >= this.#slowness.patience(this.#timing.patience)) return this.#dead();
    } else if (quiet >= this.#silence() || late || (this.#asked && !this.#owed && since(this.#asked) >= UNANSWERED)) {
      this.#again = late && this.#pinged !== null;
      this.#ping();
    }
    if (this.#owed && since(this.#owed) >= ONE_WAY) return this.#dead();
    return this.#end !== null;
  }

  #ping() {
    this.#pinged = moment();
    this.#owed ??= this.#pinged;
    this.#acts.ping();
  }

  #dead() {
    this.#slowness.gaveUp(this.#slowness.patience(this.#timing.patience));
    this.stop();
    this.#acts.dead();
    return false;
  }

  #doubt(yes) {
    if (this.#doubtful === yes) return;
    this.#doubtful = yes;
    this.#acts.doubt(yes);
  }
}

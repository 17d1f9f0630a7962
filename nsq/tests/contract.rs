//! What this client and nsqd owe each other, against real daemons that each test starts for itself.
//!
//! The daemons are found by `KEEPSTEP_NSQD_BIN` and `KEEPSTEP_NSQLOOKUPD_BIN`, else in the PATH.

#[path = "contract/admin.rs"]
mod admin;
#[path = "contract/bounds.rs"]
mod bounds;
#[path = "contract/budget.rs"]
mod budget;
#[path = "contract/daemons.rs"]
mod daemons;
#[path = "contract/exchange.rs"]
mod exchange;
#[path = "contract/inbox.rs"]
mod inbox;
#[path = "contract/leave.rs"]
mod leave;
#[path = "contract/loss.rs"]
mod loss;
#[path = "contract/manners.rs"]
mod manners;
#[path = "contract/pool.rs"]
mod pool;
#[path = "contract/settle.rs"]
mod settle;

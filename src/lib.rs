//! Keepstep keeps every device of a chat user in step.

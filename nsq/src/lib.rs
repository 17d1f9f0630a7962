//! An async NSQ client made for thousands of subscriptions. It knows NSQ and nothing of chats.

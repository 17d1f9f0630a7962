use super::*;

#[test]
fn a_channel_is_read_back() {
    let keys = Keys::new("ks");
    let (user, chat): (UserId, _) = ("a.b@c-d_E".parse().unwrap(), ChatId::random());
    let heard = |channel: &str| keys.heard(3, channel, "ks:{probe.1}");
    assert_eq!(heard(&keyspace(3, &keys.read(&user))), Some(Heard::Read(user.clone())));
    assert_eq!(heard(&keys.signal(&user)), Some(Heard::Signal(user.clone())));
    assert_eq!(heard(&keys.presence(&user)), Some(Heard::Presence(user.clone())));
    assert_eq!(heard(&keys.doorbell(chat)), Some(Heard::Doorbell(chat)));
    assert_eq!(heard("__keyspace@3__:ks:{probe.1}"), Some(Heard::Probe));
    assert_eq!(heard(&keys.repaired()), Some(Heard::Repaired));
    for strange in
        ["", "ks", "ks:{u.a}:read", &keyspace(4, &keys.read(&user)), &keyspace(3, &keys.signal(&user))]
    {
        assert_eq!(heard(strange), None, "{strange}");
    }
}

#[test]
fn a_pair_has_one_name() {
    let keys = Keys::new("ks");
    let (one, other): (UserId, UserId) = ("a".parse().unwrap(), "b".parse().unwrap());
    assert_eq!(keys.pair(&one, &other), keys.pair(&other, &one));
    assert_eq!(keys.pair(&one, &other), "ks:{p.a|b}");
}

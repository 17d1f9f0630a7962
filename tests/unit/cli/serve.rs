use super::*;

#[test]
fn what_to_try_next_can_be_tried() {
    let said = |given| try_next(SocketAddr::from(([0, 0, 0, 0], 9)), given, "./keepstep");
    for given in [Given::Tokens, Given::Secret, Given::Keys] {
        let said = said(given);
        assert!(said.contains("\n  curl -s http://127.0.0.1:9/v1/chats "), "{said}");
        assert!(said.contains("\n  ./keepstep demo\n") && !said.contains("cargo"), "{said}");
    }
    // What is called TOKEN has been said by then.
    assert!(said(Given::Tokens).contains("with the lines above"));
    let own = said(Given::Secret);
    let (token, curl) = (own.find("TOKEN=$(./keepstep token --user alice)\n"), own.find("$TOKEN"));
    assert!(token.is_some() && token < curl, "{own}");
    assert!(said(Given::Keys).contains("a token of your issuer in TOKEN"));
}

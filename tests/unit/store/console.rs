use super::*;

#[test]
fn an_audit_id_has_one_spelling() {
    let id = AuditId { at: 1_795_229_488_218, number: 3 };
    assert_eq!(id.to_string().parse(), Ok(id));
    for bad in ["", "-", "1-", "-1", "1", "1-2-3", "+1-0", "1-99999999999999999999", "$", "1-*"] {
        assert_eq!(bad.parse::<AuditId>(), Err(BadAuditId), "{bad}");
    }
}

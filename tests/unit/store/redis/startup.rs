use super::union;

#[test]
fn what_others_need_stays_switched_on() {
    for (is, wanted) in [("", "Kh"), ("Ex", "ExKh"), ("AKE", "AKE"), ("KA", "KA"), ("h", "hK"), ("Kg", "Kgh")]
    {
        assert_eq!(union(is), wanted);
    }
}

use super::*;

#[test]
fn the_path_draws_the_modules_and_nothing_else() {
    let text = "keepstep:link?code=7F3K-92";
    let qr = of(text).unwrap();
    let code = QrCode::encode_text(text, QrCodeEcc::Medium).unwrap();
    let mut drawn = vec![vec![false; qr.size]; qr.size];
    for rectangle in qr.path.split_terminator('z') {
        let (place, rest) = rectangle.strip_prefix('M').unwrap().split_once('h').unwrap();
        let (x, y) = place.split_once(' ').unwrap();
        let (run, back) = rest.split_once("v1h-").unwrap();
        assert_eq!(run, back);
        let (x, y, run): (usize, usize, usize) =
            (x.parse().unwrap(), y.parse().unwrap(), run.parse().unwrap());
        drawn[y][x..x + run].fill(true);
    }
    assert_eq!(qr.size, 25, "version 2: enough for this text");
    for y in 0..25 {
        for x in 0..25 {
            assert_eq!(drawn[y as usize][x as usize], code.get_module(x, y), "{x} {y}");
        }
    }
    // The three corners that a camera looks for.
    for (x, y) in [(0, 0), (18, 0), (0, 18)] {
        assert!(drawn[y][x..x + 7].iter().all(|dark| *dark));
    }
}

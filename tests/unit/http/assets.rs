use super::*;

#[test]
fn a_path_is_a_file_of_the_pages_or_nothing() {
    assert_eq!(name("/"), Some("demo/index.html"));
    assert_eq!(name("/admin"), Some("admin/index.html"));
    assert_eq!(name("/sdk/keepstep.js"), Some("sdk/keepstep.js"));
    for path in [
        "",
        "//",
        "/sdk",
        "/sdk/",
        "/sdk//keepstep.js",
        "/sdk/../../Cargo.toml",
        "/sdk/..%2fCargo.toml",
        "/sdk/%2e%2e/Cargo.toml",
        "/sdk/..\\Cargo.toml",
        "/sdk/.npmrc",
        "/sdk/keepstep.test.mjs",
        "/sdk/test/helper.mjs",
        "/sdk/node_modules/a.js",
        "/sdk/package-lock.json",
        "/other/file.js",
        "/admin/v1/",
        "/sdk/a\0.js",
    ] {
        assert_eq!(name(path), None, "{path:?}");
    }
}

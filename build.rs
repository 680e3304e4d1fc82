//! Makes `rcon_start` (`src/sys/early.rs`) the entry point of the executable, where it is written for the processor.
//! Only of the executable: the symbol is not in test programs.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = |what: &str| std::env::var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default();
    if target("ARCH") == "x86_64" && target("ENV") == "gnu" && target("FEATURE").split(',').any(|feature| feature == "crt-static") {
        println!("cargo:rustc-link-arg-bins=-Wl,-e,rcon_start");
    }
}

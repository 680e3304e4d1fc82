//! Makes `rcon_start` (`src/sys/early.rs`) the entry point of the executable, where it is written for the processor (only
//! of the executable: the symbol is not in test programs), and hands on what `rcon version` shows of the build.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = |what: &str| std::env::var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default();
    if target("ARCH") == "x86_64"
        && ["gnu", "musl"].contains(&target("ENV").as_str())
        && target("FEATURE").split(',').any(|feature| feature == "crt-static")
    {
        println!("cargo:rustc-link-arg-bins=-Wl,-e,rcon_start");
    }
    let compiler = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())).arg("--version").output();
    let compiler = compiler.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    println!("cargo:rustc-env=RCON_COMPILER={compiler}");
}

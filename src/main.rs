//! Entry: hidden stages first (before any thread, logger or allocation-heavy start-up), then the
//! command line.

fn main() -> std::process::ExitCode {
    if let Some(code) = rcon::stage() {
        return code;
    }
    rcon::main()
}

//! Named points at which a test may make an operation fail, wait or die. Compiled to nothing
//! without the `failpoints` feature.
//!
//! `RCON_FAILPOINT="engine.start.after_monitor=kill"`; actions: `kill` (SIGKILL to itself), `stop` (SIGSTOP to
//! itself: the test sees that the point is reached, and says when to go on), `error` (`EIO`), `sleep:MS`. Several are
//! joined by `,`.

/// Acts as the environment says for the point `name`.
///
/// # Errors
/// `EIO` when the action is `error`.
#[cfg(feature = "failpoints")]
pub fn hit(name: &str) -> std::io::Result<()> {
    let Ok(list) = std::env::var("RCON_FAILPOINT") else { return Ok(()) };
    for entry in list.split(',') {
        let Some((point, action)) = entry.split_once('=') else { continue };
        if point != name {
            continue;
        }
        match action {
            "kill" => rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)?,
            "stop" => rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP)?,
            "error" => return Err(std::io::Error::from_raw_os_error(libc::EIO)),
            other => {
                if let Some(ms) = other.strip_prefix("sleep:").and_then(|ms| ms.parse().ok()) {
                    std::thread::sleep(std::time::Duration::from_millis(ms));
                }
            }
        }
    }
    Ok(())
}

/// Does nothing: this build has no failpoints.
///
/// # Errors
/// Never.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn hit(_name: &str) -> std::io::Result<()> {
    Ok(())
}

//! `ps --sort`.

use crate::cli::failure::Failure;
use crate::engine::{Engine, View};

/// By what containers are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Command,
    /// The oldest first.
    Created,
    Id,
    Image,
    Names,
    /// The one that was started last first.
    RunningFor,
    Size,
    Status,
}

impl std::str::FromStr for Order {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "command" => Order::Command,
            "created" => Order::Created,
            "id" => Order::Id,
            "image" => Order::Image,
            "names" => Order::Names,
            "runningfor" => Order::RunningFor,
            "size" => Order::Size,
            "status" => Order::Status,
            _ => return Err(format!("--sort: \"{text}\" is not one of command, created, id, image, names, runningfor, size and status")),
        })
    }
}

/// Orders the views; equal ones keep their order.
///
/// # Errors
/// A size cannot be measured.
pub fn sort(views: &mut Vec<View>, order: Order, engine: &Engine) -> Result<(), Failure> {
    if order == Order::Size {
        let mut sized = Vec::with_capacity(views.len());
        for view in views.drain(..) {
            sized.push((engine.container_size(&view)?.0, view));
        }
        sized.sort_by_key(|(size, _)| *size);
        views.extend(sized.into_iter().map(|(_, view)| view));
        return Ok(());
    }
    views.sort_by(|a, b| {
        let (x, y) = (&a.record, &b.record);
        let argv = |view: &View| -> Vec<String> {
            let process = &view.record.spec.process;
            process.entrypoint.iter().chain(&process.cmd).flatten().cloned().collect()
        };
        match order {
            Order::Command => argv(a).cmp(&argv(b)),
            Order::Created => x.created.cmp(&y.created),
            Order::Id => x.id.as_str().cmp(y.id.as_str()),
            Order::Image => x.spec.image.cmp(&y.spec.image),
            Order::Names => x.name.as_str().cmp(y.name.as_str()),
            Order::RunningFor => b.started.cmp(&a.started),
            Order::Status => a.status.as_str().cmp(b.status.as_str()),
            Order::Size => std::cmp::Ordering::Equal,
        }
    });
    Ok(())
}

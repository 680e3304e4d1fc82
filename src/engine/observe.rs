//! Looking at containers: logs, processes, resource use, sizes.
#![allow(unused)]

use super::*;

#[allow(unused_variables)]
impl Engine {
    pub fn logs(&self, name: &str, query: &LogQuery, each: &mut dyn FnMut(LogLine) -> bool) -> Result<()> { unimplemented!() }
    pub fn top(&self, name: &str, ps_args: &[String]) -> Result<Process> { unimplemented!() }
    /// Two samples `interval` apart for the CPU rate; empty names: all running.
    pub fn stats(&self, names: &[String], all: bool, interval: Duration) -> Result<Vec<StatsView>> { unimplemented!() }
    /// (size of the writable layer, virtual size).
    pub fn container_size(&self, view: &View) -> Result<(u64, u64)> { unimplemented!() }
}

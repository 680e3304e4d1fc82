//! Resource use of a container, once or again and again.

use super::Call;
use super::reply::{Answer, Refusal, Reply};
use crate::base::Timestamp;
use crate::engine::{Engine, StatsView};
use serde_json::{Value, json};
use std::time::Duration;

/// Between two documents of a stream.
const INTERVAL: Duration = Duration::from_secs(1);

pub fn stats(call: Call, name: &str) -> Answer {
    let stream = call.query.flag_or("stream", true);
    let one_shot = call.query.flag("one-shot");
    if stream && one_shot {
        return Err(Refusal::invalid("cannot have stream=true and one-shot=true"));
    }
    let engine = call.own_engine()?;
    let id = engine.view(name)?.record.id.as_str().to_owned();
    let cancel = call.cancel.clone();
    Ok(Reply::documents(move |sink| {
        let mut before: Option<(Value, Value)> = None;
        // Without an earlier sample there are no rates: a client that wants one document waits for the second sample.
        let mut first = !one_shot;
        loop {
            let Some(sample) = sample(&engine, &id)? else { return Ok(()) };
            let document = document(&engine, &sample, before.take())?;
            before = Some((document["cpu_stats"].clone(), document["read"].clone()));
            if stream || !std::mem::take(&mut first) {
                sink.document(&document)?;
                if !stream {
                    return Ok(());
                }
            }
            if cancel.pause(INTERVAL) {
                return Ok(());
            }
        }
    }))
}

/// None: it is gone.
fn sample(engine: &Engine, id: &str) -> Result<Option<StatsView>, Refusal> {
    match engine.sampler(&[id.to_owned()], true).sample() {
        Ok(rows) => Ok(rows.into_iter().next()),
        Err(crate::engine::Error::NoSuch { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn document(engine: &Engine, sample: &StatsView, before: Option<(Value, Value)>) -> Result<Value, Refusal> {
    let record = &sample.view.record;
    let host = engine.host();
    let stats = &sample.stats;
    let usage = |total: u64, kernel: u64, user: u64| json!({"total_usage": total, "usage_in_kernelmode": kernel, "usage_in_usermode": user});
    let throttled = |periods: u64| json!({"throttled_periods": periods});
    // The time of all processors, idle or not, which is what clients divide by.
    let system = crate::sys::proc_stat::uptime()?.as_nanos() * host.cpus as u128;
    let cpu = json!({
        "cpu_usage": usage(stats.cpu_total, stats.cpu_system, stats.cpu_user),
        "system_cpu_usage": u64::try_from(system).unwrap_or(u64::MAX),
        "online_cpus": host.cpus,
        "throttling_data": throttled(stats.throttled_periods),
    });
    let nothing = || json!({"cpu_usage": usage(0, 0, 0), "throttling_data": throttled(0)});
    let (precpu, preread) = before.unwrap_or_else(|| (nothing(), json!("0001-01-01T00:00:00Z")));
    let io = |op: &str, value: u64| json!({"major": 0, "minor": 0, "op": op, "value": value});
    Ok(json!({
        "id": record.id.as_str(),
        "name": format!("/{}", record.name),
        "os_type": "linux",
        "read": Timestamp::now().fixed(),
        "preread": preread,
        "pids_stats": {"current": stats.pids, "limit": stats.pids_limit},
        "blkio_stats": {"io_service_bytes_recursive": [io("read", stats.block_read), io("write", stats.block_write)]},
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": cpu,
        "precpu_stats": precpu,
        "memory_stats": {"usage": stats.memory_usage, "limit": stats.memory_limit, "stats": {}},
        "networks": {"eth0": {"rx_bytes": sample.rx, "tx_bytes": sample.tx}},
    }))
}

//! What concerns a network as a whole: GC of what nobody needs any more, and STATUS.

use super::attach::Driver;
use super::config::NetworkConfig;
use super::error::Error;
use super::plugin::{Call, Verb, memory};
use serde_json::json;

/// What a collection came to.
#[derive(Debug, Default)]
pub struct Collected {
    /// Container and interface of attachments that were released.
    pub released: Vec<(String, String)>,
    /// Whether the plugins were asked to collect: neither `disableGC` nor a version before 1.1.0 forbids it.
    pub asked: bool,
    /// What failed; the rest was done all the same.
    pub failures: Vec<Error>,
}

impl Driver {
    /// Releases the attachments to a network of containers (by id) that do not live, then tells the plugins which ones are
    /// valid, so that they forget all others. No ADD or DEL is under way on the network meanwhile.
    ///
    /// The plugins know nothing of who else uses the network: another runtime's attachments are not valid to them unless
    /// its configuration says `disableGC`.
    ///
    /// # Errors
    /// The records cannot be read, or a plugin is missing. What a plugin says is among the failures.
    pub fn gc(&self, network: &NetworkConfig, lives: &dyn Fn(&str) -> bool) -> Result<Collected, Error> {
        let lock = self.alone(&network.name)?;
        let mut collected = Collected::default();
        let mut valid = Vec::new();
        for attached in self.attached()?.into_iter().filter(|attached| attached.network == network.name) {
            if lives(&attached.container) {
                valid.push(json!({"containerID": attached.container, "ifname": attached.interface}));
                continue;
            }
            match self.del_shared(&attached.container, &attached.interface) {
                Ok(()) => collected.released.push((attached.container, attached.interface)),
                Err(failure) => {
                    // What could not be released may be tried again: the plugins must not forget it on their own.
                    valid.push(json!({"containerID": attached.container, "ifname": attached.interface}));
                    collected.failures.push(failure);
                }
            }
        }
        let programs = self.programs(network)?;
        let version = self.negotiate(network, &programs)?;
        if network.disable_gc || !version.has_upkeep() {
            return Ok(collected);
        }
        collected.asked = true;
        for (plugin, program) in network.plugins.iter().zip(&programs) {
            let mut request = plugin.request(&network.name, version);
            // The second key is what the reference library sent before the specification was settled.
            for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
                request.insert(key.to_owned(), valid.clone().into());
            }
            let call = Call { network: &network.name, plugin: (plugin.kind(), program), verb: Verb::Gc, subject: None, request: &request };
            collected.failures.extend(self.plugins.call(&call, &lock.file).err());
        }
        Ok(collected)
    }

    /// Whether containers can be attached: the programs are there, and those that speak 1.1.0 say so.
    ///
    /// # Errors
    /// The first plugin that is missing or not ready, with what it says.
    pub fn status(&self, network: &NetworkConfig) -> Result<(), Error> {
        let programs = self.programs(network)?;
        let version = self.negotiate(network, &programs)?;
        if !version.has_upkeep() {
            return Ok(());
        }
        for (plugin, program) in network.plugins.iter().zip(&programs) {
            let request = plugin.request(&network.name, version);
            let call = Call { network: &network.name, plugin: (plugin.kind(), program), verb: Verb::Status, subject: None, request: &request };
            self.plugins.call(&call, &memory()?)?;
        }
        Ok(())
    }
}

//! Ranges that others got while a network had no device.

use super::*;

impl Engine {
    /// A network whose range is nobody else's. One without a device holds it in our records only: another engine's bridge may have
    /// got it meanwhile, above all after a reboot. The default network then chooses anew; of others somebody may know the
    /// addresses.
    ///
    /// # Errors
    /// `Conflict` names the other bridge.
    pub(in crate::engine) fn with_own_range(&self, network: Network) -> Result<Network> {
        if network.driver != Driver::Bridge || network::stands(&network) {
            return Ok(network);
        }
        let Some(rival) = network::rival(&network)? else { return Ok(network) };
        if network.is_default()
            && let Some(moved) = self.move_default(&network)?
        {
            return Ok(moved);
        }
        let hint = if network.is_default() {
            "stop the containers that are on it, so that it can choose another range".to_owned()
        } else {
            format!("give it another range: rcon network rm {0}, then create it again", network.name)
        };
        Err(Error::Conflict { message: format!("network {} overlaps with {rival}", network.name), hint: Some(hint) })
    }

    /// None: somebody is on it.
    fn move_default(&self, network: &Network) -> Result<Option<Network>> {
        self.db.write(true, |tx| -> Result<Option<Network>> {
            if !tx.network_members(&network.name)?.is_empty() {
                return Ok(None);
            }
            let mut others = tx.networks()?;
            others.retain(|other| !other.is_default());
            let chosen = network::choose_default(&network.name, &others)?;
            let moved = Network { pools: chosen.pools, ..network.clone() };
            // What the firewall knows of the old range; the bridge is gone.
            network::remove(network)?;
            tx.put_network(&moved)?;
            tracing::warn!("network {} moves to another range, for the host has its old one now", network.name);
            Ok(Some(moved))
        })
    }
}

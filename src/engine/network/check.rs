//! What `system check` looks at: links, bridges and firewall elements of ours that no record owns, and what of others is in the
//! way of containers.

use super::super::check::{Checked, Trouble};
use super::*;
use crate::network::Owned;
use std::time::{Duration, Instant};

/// How long something may look left over that is only on its way out, and how often it is looked at meanwhile.
const SETTLE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);

impl Engine {
    /// Looks at the kernel, and with `repair` removes what nobody owns.
    ///
    /// # Errors
    /// The kernel or the database cannot be read, or a repair failed.
    pub(in crate::engine) fn check_networks(&self, repair: bool, checked: &mut Checked) -> Result<()> {
        let mut leftovers = self.audit_network()?;
        // The kernel takes the links of a namespace away some moments after its last process has ended.
        let deadline = Instant::now() + SETTLE;
        while !leftovers.is_empty() && Instant::now() < deadline {
            std::thread::sleep(PAUSE);
            let still = self.audit_network()?;
            leftovers.retain(|leftover| still.contains(leftover));
        }
        if repair {
            network::mend(&leftovers)?;
        }
        for leftover in leftovers {
            checked.problems.push(Trouble {
                object: "network".to_owned(),
                problem: format!("{leftover} is left over"),
                mended: repair.then(|| "removed".to_owned()),
                hint: (!repair).then(|| "mend it with --repair".to_owned()),
            });
        }
        checked.blockers = network::forward_blockers()?;
        Ok(())
    }

    fn audit_network(&self) -> Result<Vec<network::Leftover>> {
        let mut failed = None;
        let leftovers = network::audit(&mut || match self.owned() {
            Ok(owned) => owned,
            Err(error) => {
                failed = Some(error);
                Owned::default()
            }
        })?;
        failed.map_or(Ok(leftovers), Err)
    }

    fn owned(&self) -> Result<Owned> {
        let mut owned = Owned { networks: self.db.networks()?, ..Owned::default() };
        let containers = self.db.active_containers()?.into_iter().map(|record| (record.id, record.endpoints));
        let pods = self.db.pods()?.into_iter().map(|pod| (pod.id, pod.endpoints));
        for (id, endpoints) in containers.chain(pods) {
            owned.endpoints.extend(endpoints.into_iter().map(|endpoint| (id.clone(), endpoint.network_id)));
        }
        // A step of a build has no record, only its leases.
        for network in &owned.networks {
            owned.endpoints.extend(self.db.network_members(&network.name)?.into_iter().map(|id| (id, network.id.clone())));
        }
        let publications = self.db.published()?.into_iter();
        owned.published = publications.map(|publication| (publication.target, publication.port)).collect();
        Ok(owned)
    }
}

//! Logins at registries. They are the user's, kept in the docker config file, not in the engine's state.

use super::{Engine, Result};
use crate::image::Kept;

impl Engine {
    /// Verifies a user name and password (or access token) at a registry (`""`: Docker Hub) and keeps them.
    ///
    /// # Errors
    /// The registry refuses them or cannot be reached; they cannot be kept.
    pub fn login(&self, server: &str, user: &str, password: &str) -> Result<Kept> {
        Ok(crate::image::login(&self.registry, server, user, password)?)
    }

    /// User name and password that are kept for a registry; none for an anonymous user or an identity token.
    ///
    /// # Errors
    /// The docker config is not valid JSON; a credential helper failed.
    pub fn stored_login(&self, server: &str) -> Result<Option<(String, String)>> {
        Ok(crate::image::stored_login(&self.registry, server)?)
    }

    /// Forgets the credentials of a registry. False: none were kept.
    ///
    /// # Errors
    /// The docker config or a credential helper cannot be changed.
    pub fn logout(&self, server: &str) -> Result<bool> {
        Ok(crate::image::logout(&self.registry, server)?)
    }

    /// Asks a registry whether it takes these credentials; nothing is kept.
    ///
    /// # Errors
    /// The registry refuses them or cannot be reached.
    pub fn verify_login(&self, server: &str, user: &str, password: &str) -> Result<()> {
        Ok(crate::image::verify_login(&self.registry, server, user, password)?)
    }

    /// One that knows only these credentials: the text of a docker config file.
    #[must_use]
    pub fn with_docker_config(mut self, text: String) -> Self {
        self.registry.docker_config = Some(text);
        self
    }
}

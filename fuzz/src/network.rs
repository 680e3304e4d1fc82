pub mod cni;
pub mod dns;

//! The parts of the name server that read what clients, other servers and files say.
pub mod answer;
pub mod message;
pub mod table;

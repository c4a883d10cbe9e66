//! What the programs share: measuring, and futures that belong to no runtime.

pub mod deadlines;
pub mod heap;
pub mod os;
pub mod rows;
pub mod tasks;

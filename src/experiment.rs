//! `causeway experiment`: many users press enter at the same moment; how many are answered, and
//! how long do they wait?

mod load;
mod plot;
mod report;

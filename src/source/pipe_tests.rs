//! Real children.

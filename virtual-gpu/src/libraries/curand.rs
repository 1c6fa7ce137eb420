//! cuRAND: generators are handles.

use super::handle::creates;

// 101 is CURAND_STATUS_ALLOCATION_FAILED's neighbour for a bad pointer: 103 type error.
creates! { 103; curandCreateGenerator curandCreateGeneratorHost }

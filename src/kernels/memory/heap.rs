//! Returns large freed buffers to the system at once, so that a process never holds much more than it uses.
//!
//! glibc's `malloc` maps large allocations from the system and unmaps them when they are freed, but
//! each time it does, it raises the threshold, up to 32 MiB (mallopt(3),
//! `M_MMAP_THRESHOLD`). Smaller buffers then come from a heap whose holes stay with the process:
//! 40 of 330 MiB in a training step of SmolLM2-135M.

/// Makes allocations of 256 KiB and more return to the system when they are freed. Affects glibc
/// only; other allocators are left as they are.
pub(in crate::kernels) fn return_large_buffers() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const M_MMAP_THRESHOLD: i32 = -3;
        // Smaller ones hold an adapter's factors and what lives for one product.
        const LARGE: i32 = 256 << 10;
        unsafe extern "C" {
            fn mallopt(parameter: i32, value: i32) -> i32;
        }
        // SAFETY: glibc's function, as its manual declares it; it takes any two numbers. A refusal
        // (0) leaves the allocator as it was.
        unsafe { mallopt(M_MMAP_THRESHOLD, LARGE) };
    }
}

//! The program of [`crate::init`]: some hundred bytes that need no library, no memory of their own and no file of the image.
//!
//! With every signal blocked, its whole life is to wait for one: SIGCHLD has it reap, and end as its child ended; any other
//! goes on to that child, whose number is its first argument. It starts at its first byte and lies in the read-only data of
//! this program, which never runs it.

use std::arch::global_asm;
use std::ptr;

// prctl(PR_SET_NAME, "coracle-init"), since a program without a path has a number for its name
// child = decimal number of argv[1]
// wait:    signal = rt_sigtimedwait(all, NULL, NULL, 8)
//          SIGCHLD: reap; more than 0: kill(child, signal), wait; EINTR: wait; any other error: exit_group(125)
// reap:    pid = wait4(-1, &status, WNOHANG, NULL)
//          nobody: wait; not the child: reap
//          exit_group(code, or 128 + the signal that killed it)

#[cfg(target_arch = "x86_64")]
global_asm!(
    ".pushsection .rodata.coracle_init, \"a\", @progbits",
    ".globl CORACLE_INIT_BEGIN, CORACLE_INIT_END",
    ".hidden CORACLE_INIT_BEGIN, CORACLE_INIT_END",
    "CORACLE_INIT_BEGIN:",
    "    lea     rsi, [rip + .Lcoracle_init_name]",
    "    mov     edi, 15",
    "    mov     eax, 157",
    "    syscall",
    "    mov     rsi, [rsp + 16]",
    "    xor     ebx, ebx",
    ".Lcoracle_init_digit:",
    "    movzx   eax, byte ptr [rsi]",
    "    inc     rsi",
    "    sub     eax, 48",
    "    js      .Lcoracle_init_wait",
    "    imul    ebx, ebx, 10",
    "    add     ebx, eax",
    "    jmp     .Lcoracle_init_digit",
    ".Lcoracle_init_wait:",
    "    lea     rdi, [rip + .Lcoracle_init_all]",
    "    xor     esi, esi",
    "    xor     edx, edx",
    "    mov     r10d, 8",
    "    mov     eax, 128",
    "    syscall",
    "    cmp     eax, 17",
    "    je      .Lcoracle_init_reap",
    "    test    eax, eax",
    "    jg      .Lcoracle_init_forward",
    "    cmp     eax, -4",
    "    je      .Lcoracle_init_wait",
    "    mov     edi, 125",
    "    jmp     .Lcoracle_init_exit",
    ".Lcoracle_init_forward:",
    "    mov     edi, ebx",
    "    mov     esi, eax",
    "    mov     eax, 62",
    "    syscall",
    "    jmp     .Lcoracle_init_wait",
    ".Lcoracle_init_reap:",
    "    mov     rdi, -1",
    "    mov     rsi, rsp",
    "    mov     edx, 1",
    "    xor     r10d, r10d",
    "    mov     eax, 61",
    "    syscall",
    "    test    eax, eax",
    "    jle     .Lcoracle_init_wait",
    "    cmp     eax, ebx",
    "    jne     .Lcoracle_init_reap",
    "    mov     edi, [rsp]",
    "    mov     eax, edi",
    "    shr     edi, 8",
    "    and     eax, 127",
    "    jz      .Lcoracle_init_exit",
    "    lea     edi, [rax + 128]",
    ".Lcoracle_init_exit:",
    "    mov     eax, 231",
    "    syscall",
    ".Lcoracle_init_name:",
    "    .asciz  \"coracle-init\"",
    "    .balign 8",
    ".Lcoracle_init_all:",
    "    .quad   -1",
    "CORACLE_INIT_END:",
    ".popsection",
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".pushsection .rodata.coracle_init, \"a\", %progbits",
    ".globl CORACLE_INIT_BEGIN, CORACLE_INIT_END",
    ".hidden CORACLE_INIT_BEGIN, CORACLE_INIT_END",
    ".balign 8",
    "CORACLE_INIT_BEGIN:",
    "    adr     x1, .Lcoracle_init_name",
    "    mov     x0, #15",
    "    mov     x8, #167",
    "    svc     #0",
    "    ldr     x1, [sp, #16]",
    "    mov     w19, #0",
    "    mov     w3, #10",
    ".Lcoracle_init_digit:",
    "    ldrb    w0, [x1], #1",
    "    subs    w0, w0, #48",
    "    b.mi    .Lcoracle_init_wait",
    "    madd    w19, w19, w3, w0",
    "    b       .Lcoracle_init_digit",
    ".Lcoracle_init_wait:",
    "    adr     x0, .Lcoracle_init_all",
    "    mov     x1, #0",
    "    mov     x2, #0",
    "    mov     x3, #8",
    "    mov     x8, #137",
    "    svc     #0",
    "    cmp     w0, #17",
    "    b.eq    .Lcoracle_init_reap",
    "    cmp     w0, #0",
    "    b.gt    .Lcoracle_init_forward",
    "    cmn     w0, #4",
    "    b.eq    .Lcoracle_init_wait",
    "    mov     w0, #125",
    "    b       .Lcoracle_init_exit",
    ".Lcoracle_init_forward:",
    "    mov     w1, w0",
    "    mov     w0, w19",
    "    mov     x8, #129",
    "    svc     #0",
    "    b       .Lcoracle_init_wait",
    ".Lcoracle_init_reap:",
    "    mov     x0, #-1",
    "    mov     x1, sp",
    "    mov     x2, #1",
    "    mov     x3, #0",
    "    mov     x8, #260",
    "    svc     #0",
    "    cmp     w0, #0",
    "    b.le    .Lcoracle_init_wait",
    "    cmp     w0, w19",
    "    b.ne    .Lcoracle_init_reap",
    "    ldr     w0, [sp]",
    "    ands    w1, w0, #127",
    "    add     w2, w1, #128",
    "    lsr     w0, w0, #8",
    "    csel    w0, w0, w2, eq",
    ".Lcoracle_init_exit:",
    "    mov     x8, #94",
    "    svc     #0",
    ".Lcoracle_init_name:",
    "    .asciz  \"coracle-init\"",
    "    .balign 8",
    ".Lcoracle_init_all:",
    "    .quad   -1",
    "CORACLE_INIT_END:",
    ".popsection",
);

// rt_sigtimedwait of 32-bit time is not in every kernel; rt_sigtimedwait_time64 is from 5.1 on.
#[cfg(target_arch = "arm")]
global_asm!(
    ".pushsection .rodata.coracle_init, \"a\", %progbits",
    ".globl CORACLE_INIT_BEGIN, CORACLE_INIT_END",
    ".hidden CORACLE_INIT_BEGIN, CORACLE_INIT_END",
    ".arm",
    ".balign 8",
    "CORACLE_INIT_BEGIN:",
    "    adr     r1, .Lcoracle_init_name",
    "    mov     r0, #15",
    "    mov     r7, #172",
    "    svc     #0",
    "    ldr     r1, [sp, #8]",
    "    mov     r4, #0",
    "    mov     r3, #10",
    "    mov     r6, #177",
    ".Lcoracle_init_digit:",
    "    ldrb    r0, [r1], #1",
    "    subs    r0, r0, #48",
    "    bmi     .Lcoracle_init_wait",
    "    mla     r4, r3, r4, r0",
    "    b       .Lcoracle_init_digit",
    ".Lcoracle_init_wait:",
    "    adr     r0, .Lcoracle_init_all",
    "    mov     r1, #0",
    "    mov     r2, #0",
    "    mov     r3, #8",
    "    mov     r7, r6",
    "    svc     #0",
    "    cmp     r0, #17",
    "    beq     .Lcoracle_init_reap",
    "    cmp     r0, #0",
    "    bgt     .Lcoracle_init_forward",
    "    cmn     r0, #4",
    "    beq     .Lcoracle_init_wait",
    "    cmn     r0, #38",
    "    cmpeq   r6, #177",
    "    movne   r0, #125",
    "    bne     .Lcoracle_init_exit",
    "    mov     r6, #420",
    "    add     r6, r6, #1",
    "    b       .Lcoracle_init_wait",
    ".Lcoracle_init_forward:",
    "    mov     r1, r0",
    "    mov     r0, r4",
    "    mov     r7, #37",
    "    svc     #0",
    "    b       .Lcoracle_init_wait",
    ".Lcoracle_init_reap:",
    "    mvn     r0, #0",
    "    mov     r1, sp",
    "    mov     r2, #1",
    "    mov     r3, #0",
    "    mov     r7, #114",
    "    svc     #0",
    "    cmp     r0, #0",
    "    ble     .Lcoracle_init_wait",
    "    cmp     r0, r4",
    "    bne     .Lcoracle_init_reap",
    "    ldr     r0, [sp]",
    "    ands    r1, r0, #127",
    "    lsreq   r0, r0, #8",
    "    addne   r0, r1, #128",
    ".Lcoracle_init_exit:",
    "    mov     r7, #248",
    "    svc     #0",
    ".Lcoracle_init_name:",
    "    .asciz  \"coracle-init\"",
    "    .balign 8",
    ".Lcoracle_init_all:",
    "    .quad   -1",
    "CORACLE_INIT_END:",
    ".popsection",
);

/// `e_machine` and `e_flags` (linux/elf-em.h; of ARM, version 5 of its ABI).
#[cfg(target_arch = "x86_64")]
pub(crate) const MACHINE: (u16, u32) = (62, 0);
#[cfg(target_arch = "aarch64")]
pub(crate) const MACHINE: (u16, u32) = (183, 0);
#[cfg(target_arch = "arm")]
pub(crate) const MACHINE: (u16, u32) = (40, 0x0500_0000);

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "arm")))]
compile_error!("the init has no instructions for this architecture: they belong here");

// SAFETY: the assembly above defines both, as bytes.
unsafe extern "C" {
    static CORACLE_INIT_BEGIN: u8;
    static CORACLE_INIT_END: u8;
}

/// The instructions, of this architecture.
pub(crate) fn code() -> &'static [u8] {
    let (begin, end) = (&raw const CORACLE_INIT_BEGIN, &raw const CORACLE_INIT_END);
    // SAFETY: both labels are in one section, the second behind the first, and what lies between them is never written.
    unsafe { &*ptr::slice_from_raw_parts(begin, end.addr() - begin.addr()) }
}

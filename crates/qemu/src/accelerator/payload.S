# The probe guest: what a kernel does on its way up, in a few hundred instructions.
#
# The image stands in for the firmware. The reset vector (written by payload.rs at the
# image's end) jumps to `start` in real mode; everything else runs from a copy in RAM at
# 0x10000. Each stage announces itself with one letter on the debug port 0xe9, so a guest
# that stops says where. The end is "=", sixteen hexadecimal digits computed over 16 MiB of
# memory, a newline, and exit code 0x2a through the debug-exit port 0xf4.
#
# payload.rs carries the assembled bytes; a test compares them with this file:
#   as --64 -o payload.o payload.S
#   ld -Ttext=0x10000 -e start -o payload.elf payload.o
#   objcopy -O binary -j .text payload.elf payload.bin
#
# Memory:
#   0x10000 this code            0x28000 interrupt descriptors   0x38000 top of user stack
#   0x20000 first page tables    0x29000 task state segment      0x40000 code written at run time
#   0x27000 second root table    0x30000 top of kernel stack
#   0x800000 frames for 2 MiB of demand-mapped pages, 0x1000000 buffer A, 0x1800000 buffer B

        .intel_syntax noprefix
        .text

        # ---- Real mode, running from the firmware image at f000:0000
        .code16
        .globl start
start:
        cli
        cld
        mov     al, 'R'
        out     0xe9, al
        mov     ax, 0xf000
        mov     ds, ax
        xor     si, si
        mov     ax, 0x1000
        mov     es, ax
        xor     di, di
        mov     cx, 0x400
        rep     movsd                           # 4 KiB: this code, into RAM
        .byte   0xea                            # jmp 1000:in_ram
        .word   in_ram - start, 0x1000
in_ram:
        mov     ax, cs
        mov     ds, ax
        in      al, 0x92                        # address line 20 on
        or      al, 2
        and     al, 0xfe
        out     0x92, al
        lgdt    [gdt_pointer - start]
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        .byte   0x66, 0xea                      # jmp 0008:protected
        .long   protected
        .word   0x08

        # ---- Protected mode: page tables, then long mode
        .code32
protected:
        mov     eax, 0x10
        mov     ds, eax
        mov     es, eax
        mov     ss, eax
        mov     esp, 0x30000
        mov     al, 'P'
        out     0xe9, al
        mov     edi, 0x20000
        xor     eax, eax
        mov     ecx, 0x4000
        rep     stosd
        mov     dword ptr [0x20000], 0x21007    # low addresses
        mov     dword ptr [0x20800], 0x24003    # 0xffff800000000000
        mov     dword ptr [0x21000], 0x22007
        mov     dword ptr [0x21018], 0x23003
        mov     dword ptr [0x23fb8], 0xfee0009b # local APIC, uncached 2 MiB page
        mov     dword ptr [0x24000], 0x25003
        mov     dword ptr [0x25000], 0x26003    # 512 pages of 4 KiB, none present yet
        mov     edi, 0x22000
        mov     eax, 0x87                       # 64 MiB as 2 MiB pages, user too
1:      mov     [edi], eax
        add     edi, 8
        add     eax, 0x200000
        cmp     edi, 0x22100
        jne     1b
        mov     eax, cr4
        or      eax, 0x20                       # PAE
        mov     cr4, eax
        mov     eax, 0x20000
        mov     cr3, eax
        mov     ecx, 0xc0000080                 # EFER: LME, SCE
        rdmsr
        or      eax, 0x101
        wrmsr
        mov     eax, cr0
        and     eax, 0x9fffffff                 # caches on: CD and NW off
        or      eax, 0x80010000                 # PG, WP
        mov     cr0, eax
        .byte   0xea                            # jmp 0018:long_mode
        .long   long_mode
        .word   0x18

        # ---- Long mode: a root table of its own, interrupt descriptors, task register
        .code64
long_mode:
        mov     esp, 0x30000
        mov     al, 'L'
        out     0xe9, al
        mov     esi, 0x20000
        mov     edi, 0x27000
        mov     ecx, 0x200
        rep     movsq
        mov     eax, 0x27000
        mov     cr3, rax
        mov     rax, cr4
        or      eax, 0x80                       # PGE
        mov     cr4, rax
        movabs  rax, 0x00018e0000180000 + (unexpected - start)
        mov     edi, 0x28000
1:      mov     [rdi], rax
        mov     qword ptr [rdi + 8], 0
        add     edi, 16
        cmp     edi, 0x29000
        jne     1b
        movabs  rax, 0x00018e0000180000 + (page_fault - start)
        mov     [0x280e0], rax                  # vector 14
        movabs  rax, 0x00018e0000180000 + (timer_8259 - start)
        mov     [0x28200], rax                  # vector 0x20
        movabs  rax, 0x00018e0000180000 + (timer_apic - start)
        mov     [0x28400], rax                  # vector 0x40
        lidt    [idt_pointer]
        mov     dword ptr [0x29004], 0x30000    # RSP0
        mov     eax, 0x40
        ltr     ax
        mov     al, 0xff                        # both 8259s masked: the interval timer is
        out     0x21, al                        # already running, with vectors nobody chose
        out     0xa1, al

        # ---- CPUID and model-specific registers
        mov     al, 'M'
        out     0xe9, al
        mov     eax, 0x80000001
        cpuid
        bt      edx, 29                         # long mode
        jnc     wrong
        mov     ecx, 0xc0000080
        rdmsr
        bt      eax, 10                         # EFER.LMA
        jnc     wrong
        mov     ecx, 0x1b
        rdmsr
        bt      eax, 11                         # local APIC enabled
        jnc     wrong
        mov     ecx, 0xc0000102                 # KERNEL_GS_BASE keeps what is written
        mov     eax, 0x12345678
        mov     edx, 0x7ace
        wrmsr
        xor     eax, eax
        xor     edx, edx
        rdmsr
        cmp     eax, 0x12345678
        jne     wrong
        cmp     edx, 0x7ace
        jne     wrong
        rdtsc
        mov     ebx, eax
        rdtsc
        cmp     eax, ebx                        # time passes
        je      wrong

        # ---- Demand paging: every page is faulted in read-only, then made writable
        mov     al, 'F'
        out     0xe9, al
        xor     r14d, r14d                      # protection faults
        xor     r15d, r15d                      # missing-page faults
        movabs  rdi, 0xffff800000000000
        xor     ecx, ecx
1:      mov     rax, [rdi]
        mov     [rdi], rcx
        add     rdi, 0x1000
        inc     ecx
        cmp     ecx, 512
        jne     1b
        cmp     r15d, 512
        jne     wrong
        cmp     r14d, 512
        jne     wrong
        mov     esi, 0x800000                   # the same frames, through 2 MiB pages
        xor     ecx, ecx
1:      cmp     [rsi], rcx
        jne     wrong
        add     esi, 0x1000
        inc     ecx
        cmp     ecx, 512
        jne     1b

        # ---- Code written, run, changed and run again
        mov     al, 'S'
        out     0xe9, al
        mov     edi, 0x40000
        mov     byte ptr [rdi], 0xb8            # mov eax, ...
        mov     byte ptr [rdi + 5], 0xc3        # ret
        mov     ebx, 64
1:      mov     [rdi + 1], ebx
        call    rdi
        cmp     eax, ebx
        jne     wrong
        dec     ebx
        jnz     1b

        # ---- A 16-byte locked exchange, where CPUID promises one (kernel allocators use it)
        mov     al, 'A'
        out     0xe9, al
        mov     eax, 1
        cpuid
        bt      ecx, 13
        jnc     1f
        mov     edi, 0x40010
        mov     qword ptr [rdi], 5
        mov     qword ptr [rdi + 8], 7
        mov     eax, 5
        mov     edx, 7
        mov     ebx, 11
        mov     ecx, 13
        lock    cmpxchg16b [rdi]
        jne     wrong
        cmp     qword ptr [rdi], 11
        jne     wrong
        cmp     qword ptr [rdi + 8], 13
        jne     wrong
1:
        # ---- Ring 3 and back by a system call
        mov     al, 'U'
        out     0xe9, al
        mov     ecx, 0xc0000081                 # STAR
        xor     eax, eax
        mov     edx, 0x002b0018
        wrmsr
        mov     ecx, 0xc0000082                 # LSTAR
        mov     eax, offset system_call
        xor     edx, edx
        wrmsr
        mov     ecx, 0xc0000084                 # SFMASK: interrupts off
        mov     eax, 0x200
        xor     edx, edx
        wrmsr
        push    0x33
        push    0x38000
        push    2
        push    0x3b
        push    offset user
        iretq
user:
        mov     ebx, cs
        xor     edx, edx
        mov     ecx, 1000
1:      push    rcx
        pop     rsi
        add     edx, esi
        dec     ecx
        jnz     1b
        syscall
system_call:
        mov     esp, 0x30000
        and     ebx, 3
        cmp     ebx, 3
        jne     wrong
        cmp     edx, 500500
        jne     wrong

        # ---- Local APIC timer: eight interrupts out of a halt
        mov     al, 'I'
        out     0xe9, al
        mov     edi, 0xfee00000
        mov     dword ptr [rdi + 0xf0], 0x1ff   # enabled, spurious vector 0xff
        mov     dword ptr [rdi + 0x80], 0       # every priority
        mov     dword ptr [rdi + 0x3e0], 0xb    # divide by 1
        mov     dword ptr [rdi + 0x320], 0x40   # one shot, vector 0x40
        xor     r12d, r12d
        mov     ebx, 1
1:      mov     dword ptr [rdi + 0x380], 100000
2:      sti
        hlt
        cli
        cmp     r12d, ebx
        jb      2b
        inc     ebx
        cmp     ebx, 9
        jne     1b

        # ---- Interval timer through the 8259: three ticks at 1 kHz
        mov     al, 'T'
        out     0xe9, al
        mov     dword ptr [rdi + 0x350], 0x700  # LINT0: external interrupts
        mov     al, 0x11
        out     0x20, al
        mov     al, 0x20
        out     0x21, al
        mov     al, 4
        out     0x21, al
        mov     al, 1
        out     0x21, al
        mov     al, 0xfe
        out     0x21, al
        mov     al, 0xff
        out     0xa1, al
        mov     al, 0x34
        out     0x43, al
        mov     al, 0xa9
        out     0x40, al
        mov     al, 0x04
        out     0x40, al
        xor     r12d, r12d
1:      sti
        hlt
        cli
        cmp     r12d, 3
        jb      1b
        mov     al, 0xff
        out     0x21, al

        # ---- Work: fill 8 MiB, then eight times copy it and mix the copy back
        mov     al, 'C'
        out     0xe9, al
        movabs  rax, 0x9e3779b97f4a7c15
        mov     edi, 0x1000000
        mov     ecx, 0x100000
1:      mov     rdx, rax                        # xorshift
        shl     rdx, 13
        xor     rax, rdx
        mov     rdx, rax
        shr     rdx, 7
        xor     rax, rdx
        mov     rdx, rax
        shl     rdx, 17
        xor     rax, rdx
        mov     [rdi], rax
        add     rdi, 8
        dec     ecx
        jnz     1b
        mov     rbx, rax
        movabs  rbp, 0xff51afd7ed558ccd
        mov     r8d, 8
2:      mov     esi, 0x1000000
        mov     edi, 0x1800000
        mov     ecx, 0x100000
        rep     movsq
        mov     esi, 0x1800000
        mov     edi, 0x1000000
        mov     ecx, 0x100000
3:      xor     rbx, [rsi]
        imul    rbx, rbp
        rol     rbx, 23
        mov     [rdi], rbx
        add     rsi, 8
        add     rdi, 8
        dec     ecx
        jnz     3b
        dec     r8d
        jnz     2b

        # ---- The token, and out
        mov     al, '='
        out     0xe9, al
        mov     ecx, 16
1:      rol     rbx, 4
        mov     eax, ebx
        and     eax, 15
        mov     al, [digits + rax]
        out     0xe9, al
        dec     ecx
        jnz     1b
        mov     al, 10
        out     0xe9, al
        mov     al, 0x2a
        jmp     leave_guest

        # ---- Ways out that are not success
wrong:                                          # a result differs from a processor's
        mov     al, '?'
        out     0xe9, al
        mov     al, 0x0e
        jmp     leave_guest
unexpected:                                     # an exception nothing should have raised
        mov     al, '!'
        out     0xe9, al
        mov     al, 0x0f
leave_guest:
        out     0xf4, al
1:      cli
        hlt
        jmp     1b

        # ---- Interrupt handlers
page_fault:
        push    rax
        push    rcx
        push    rdx
        mov     rax, cr2
        movabs  rcx, 0xffff800000000000
        sub     rax, rcx
        cmp     rax, 0x200000
        jae     unexpected
        mov     edx, eax
        and     edx, 0x1ff000
        shr     eax, 12
        test    byte ptr [rsp + 24], 1          # error code: was the page present?
        jnz     1f
        inc     r15d
        add     edx, 0x800001                   # present, read-only
        jmp     2f
1:      inc     r14d
        add     edx, 0x800003                   # present, writable
2:      mov     [0x26000 + rax * 8], rdx
        mov     rax, cr2
        invlpg  [rax]
        pop     rdx
        pop     rcx
        pop     rax
        add     rsp, 8
        iretq
timer_apic:
        inc     r12d
        mov     dword ptr [rdi + 0xb0], 0       # end of interrupt; rdi is the local APIC
        iretq
timer_8259:
        push    rax
        inc     r12d
        mov     al, 0x20
        out     0x20, al
        pop     rax
        iretq

        # ---- Tables
digits: .ascii  "0123456789abcdef"
gdt_pointer:
        .word   gdt_end - gdt - 1
        .long   gdt
idt_pointer:
        .word   0xfff
        .quad   0x28000
gdt:    .quad   0
        .quad   0x00cf9a000000ffff              # 0x08 code, 32 bit
        .quad   0x00cf92000000ffff              # 0x10 data
        .quad   0x00af9a000000ffff              # 0x18 code, 64 bit
        .quad   0x00cf92000000ffff              # 0x20 data, beside 0x18 for syscall
        .quad   0
        .quad   0x00cff2000000ffff              # 0x30 user data
        .quad   0x00affa000000ffff              # 0x38 user code, 64 bit
        .quad   0x0000890290000067, 0           # 0x40 task state segment at 0x29000
gdt_end:

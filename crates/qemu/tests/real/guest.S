# A guest of one sector, for tests: it counts. Each round it
#   - adds one to A (physical 0x20000),
#   - writes the number into one of 64 pages from 0x40000 on, in turn,
#   - with flag 1, writes it into sector 1 of the second and of the third disk, through the firmware,
#   - stores it in B (physical 0x30000),
#   - prints it on the first serial port (eight hexadecimal digits and a line feed),
#   - with flag 2, sleeps until the next timer tick (18 a second).
# So at every instant B <= disks <= A <= B + 1.
#
# as --32 guest.S -o guest.o && objcopy -O binary -j .text guest.o guest.bin
        .code16
        .text
        .org 0
start:  cli
        xor     %ax, %ax
        mov     %ax, %ds
        mov     %ax, %ss
        mov     $0x7c00, %sp
        sti
        cld
        ljmp    $0, $0x7c00 + (begin - start)
begin:  call    segments
        movl    $0, %fs:0
        movl    $0, %gs:0
round:  incl    %fs:0
        mov     %fs:0, %eax
        mov     %ax, %bx
        and     $63, %bx
        shl     $8, %bx
        add     $0x4000, %bx
        mov     %bx, %es
        mov     %eax, %es:0
        mov     %eax, 0x800
        testb   $1, 0x7c00 + (flags - start)
        jz      1f
        mov     $0x81, %dl
        call    write
        mov     $0x82, %dl
        call    write
1:      call    segments
        mov     %fs:0, %eax
        mov     %eax, %gs:0
        mov     $8, %cx
2:      rol     $4, %eax
        push    %eax
        and     $15, %al
        cmp     $10, %al
        jb      3f
        add     $('a' - '0' - 10), %al
3:      add     $'0', %al
        call    print
        pop     %eax
        loop    2b
        mov     $10, %al
        call    print
        testb   $2, 0x7c00 + (flags - start)
        jz      round
        hlt
        jmp     round

segments:
        mov     $0x2000, %ax
        mov     %ax, %fs
        mov     $0x3000, %ax
        mov     %ax, %gs
        ret

write:  mov     $0x7c00 + (packet - start), %si
        mov     $0x4300, %ax
        int     $0x13
        jc      failed
        ret
failed: mov     $'!', %al
        call    print
        hlt
        jmp     failed

print:  mov     %al, %ah
        mov     $0x3fd, %dx
4:      in      %dx, %al
        test    $0x20, %al
        jz      4b
        mov     $0x3f8, %dx
        mov     %ah, %al
        out     %al, %dx
        ret

packet: .byte   16, 0
        .word   1, 0x800, 0
        .quad   1

        .org 509
flags:  .byte   0
        .byte   0x55, 0xaa

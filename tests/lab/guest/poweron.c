// Prints the seconds since the machine was switched on, by its own counter, which the kernel's clock knows only from the
// moment on that the kernel is unpacked.
#include <stdint.h>
#include <stdio.h>

int main(void)
{
    uint32_t low, high, frequency;
    __asm__ volatile("mrrc p15, 1, %0, %1, c14" : "=r"(low), "=r"(high));
    __asm__ volatile("mrc p15, 0, %0, c14, c0, 0" : "=r"(frequency));
    printf("%.3f\n", (double)((uint64_t)high << 32 | low) / frequency);
    return 0;
}

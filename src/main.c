#include <stdio.h>

int main(void)
{
    printf("slimscope %s\n", SLIMSCOPE_VERSION);
    return 0;
}

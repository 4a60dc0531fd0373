#ifndef SLIM_SRC_FORMAT_H
#define SLIM_SRC_FORMAT_H

#include <stddef.h>
#include <stdint.h>

/* Numbers as screens and plots show them. Each writes at most `size` bytes. */
void fmt_value(char *out, size_t size, double v); /* short, four digits */
void fmt_count(char *out, size_t size, int64_t n); /* 1,024 */
void fmt_seconds(char *out, size_t size, double s); /* 0.4 s, 1:48, 2:03:04 */
void fmt_percent(char *out, size_t size, double share); /* share 0..1: 31 %, 0.05 % */

#endif

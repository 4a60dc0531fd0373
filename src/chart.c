#include "src/chart.h"

int hist_columns(HistForm f)
{
    return f == HIST_BRAILLE ? 2 : 1;
}

int hist_levels(HistForm f)
{
    return f == HIST_BRAILLE ? 4 : f == HIST_BLOCK ? 8 : 3;
}

wchar_t hist_cell(HistForm f, int left, int right)
{
    static const unsigned char dots_left[5] = {0, 0x40, 0x44, 0x46, 0x47}, dots_right[5] = {0, 0x80, 0xa0, 0xb0, 0xb8};
    static const char ascii[4] = {' ', '.', ':', '#'};
    int top = hist_levels(f);
    left = left < 0 ? 0 : left > top ? top : left;
    right = right < 0 ? 0 : right > top ? top : right;
    if (f == HIST_BRAILLE)
        return left || right ? (wchar_t)(0x2800 + dots_left[left] + dots_right[right]) : L' ';
    if (f == HIST_BLOCK)
        return left ? (wchar_t)(0x2580 + left) : L' ';
    return (wchar_t)ascii[left];
}

/* A column of dots up to `full`, every second one from there up to `light`; `odd`: which of them. */
static unsigned braille_column(const unsigned char bit[4], int full, int light, bool odd)
{
    unsigned dots = 0;
    for (int i = 0; i < 4; i++)
        if (i < full || (i < light && (i % 2 == 1) == odd))
            dots |= bit[i];
    return dots;
}

wchar_t hist_over_cell(HistForm f, const int full[2], const int light[2])
{
    static const unsigned char left[4] = {0x40, 0x04, 0x02, 0x01}, right[4] = {0x80, 0x20, 0x10, 0x08}; /* from below */
    if (f == HIST_BRAILLE) {
        unsigned dots = braille_column(left, full[0], light[0], false) | braille_column(right, full[1], light[1], true);
        return dots ? (wchar_t)(0x2800 + dots) : L' ';
    }
    int half = hist_levels(f) / 2;
    if (full[0] <= 0 && light[0] > 0)
        return f == HIST_BLOCK ? L'\u2591' : light[0] > half ? L':' : L'.';
    return f == HIST_ASCII && full[0] > 0 ? L'#' : hist_cell(f, full[0], full[1]);
}

wchar_t chart_shade(HistForm f, double share)
{
    static const wchar_t braille[] = L" \u2840\u2844\u2846\u28c6\u28e6\u28f6\u28f7\u28ff", block[] = L" \u2591\u2592\u2593\u2588",
                         ascii[] = L" .:-=+*#%@";
    const wchar_t *ramp = f == HIST_BRAILLE ? braille : f == HIST_BLOCK ? block : ascii;
    int n = f == HIST_BRAILLE ? 9 : f == HIST_BLOCK ? 5 : 10, i = share > 0 ? 1 + (int)(share * (n - 1)) : 0;
    return ramp[i < n ? i : n - 1];
}

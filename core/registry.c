/* The one place that names every row of the engine's tables. A new row: its file, a line here, a test. */
#include <stddef.h>

#include "metric/rows.h"
#include "model/arch.h"

const Arch *const arch_table[] = {
    &arch_llama,
    &arch_qwen2,
    &arch_qwen3,
    NULL,
};

const Metric *const metric_table[] = {
    &metric_kurtosis,
    &metric_std,
    &metric_quantile,
    &metric_local_error,
    NULL,
};

#ifndef SLIM_RUN_HYPER_H
#define SLIM_RUN_HYPER_H

/* Arithmetic of one token's hyper-connection (specs/models.md 2.5, DeepSeek-V4), in float32. */

/* c[n][n] becomes softmax of its rows plus eps, then its columns and rows are divided by their sums plus eps in turn,
 * columns `rounds` times and rows one time less. */
void hyper_sinkhorn(float *c, int n, int rounds, float eps);

/* From m[n (2 + n)] = fn times the normed state: pre[n], post[n] and mix[n][n], whose entry (j, k) is the share of copy
 * j in the new copy k. base[n (2 + n)], scale[3]. */
void hyper_coefficients(const float *m, const float *base, const float *scale, int n, int rounds, float eps, float *pre,
                        float *post, float *mix);

/* pre[n] alone, from m[n]: of what the model ends with. */
void hyper_pre(const float *m, const float *base, float scale, int n, float eps, float *pre);

#endif

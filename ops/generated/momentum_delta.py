"""momentum_delta: generated from its spec by rnnc; do not edit.

M[t] = sigmoid(m) * M[t-1] + eta * u @ (v - alpha * (S[t-1].T @ u)).T
S[t] = beta * sigmoid(m) * M[t-1] + alpha * S[t-1] + beta * eta * u @ (v - alpha * (S[t-1].T @ u)).T
o[t] = K**-0.5 * (S[t].T @ unit(q))
  alpha = exp(-exp(A_log) * softplus(a + dt_bias))
  beta = sigmoid(b)
  eta = sigmoid(e)
  u = unit(k)

In a chunk of C tokens with the incoming states M_in, S_in:
  D = [[sigmoid(m), 0], [beta * sigmoid(m), alpha]], of (M, S)
  w_M = eta * u,  w_S = beta * eta * u,  f_S = -alpha * u
  q_ = K**-0.5 * unit(q)
  X and Y go through the states, over which D, T and G are matrices
  T[i,j] = D[i] ... D[j+1],  T[j,j] = I;  G[i] = D[i] ... D[1],  G[0] = I
  P[i,j] = sum_XY T[i-1,j]_XY f_X[i]^T w_Y[j],  j < i
  U = (I - P)^-1 (v + sum_XY (G[i-1]_XY f_X) Y_in)
  A[i,j] = sum_Y T[i,j]_S,Y q_[i]^T w_Y[j],  j <= i
  r = A U + sum_Y (G[i]_S,Y q_) Y_in
  X_out = sum_Y G[C]_XY Y_in + (sum_Y T[C,j]_XY w_Y[j])^T U
"""

import torch
import torch.nn.functional as F

from rnnc.ops import scan, tiles

NAME = "momentum_delta"
SPEC_HASH = "e2d031ef8c1c13ef0c018473751bba0d85ddb6aa8a2615b37ba06c18a109ec2a"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)), ("a", ()), ("m", ()), ("b", ()), ("e", ()))
PARAMS = (("A_log", ()), ("dt_bias", ()))
STATES = (("M", ("K", "V")), ("S", ("K", "V")))
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, m, b_, e, A_log, dt_bias) = args
    K = q.shape[3]
    H = h0[0].shape[1]
    x12 = torch.sigmoid(m)
    x14 = torch.sigmoid(b_)
    x18 = torch.exp(A_log)
    x19 = a_ + dt_bias[:, :, None]
    x20 = tiles.softplus(x19)
    del x19
    x21 = (x18 * -1)[:, :, None] * x20
    del x18, x20
    x22 = torch.exp(x21)
    x24 = torch.sigmoid(e)
    x25 = k * k
    x26 = x25.sum(3)
    del x25
    x28 = x26 + 1e-06
    del x26
    x29 = torch.rsqrt(x28)
    del x28
    x81 = k @ k.mT
    x108 = (K) ** -0.5
    x109 = q * q
    x110 = x109.sum(3)
    del x109
    x111 = x110 + 1e-06
    del x110
    x112 = torch.rsqrt(x111)
    del x111
    x129 = q @ k.mT
    x166 = F.logsigmoid(m)
    x167 = x166 * tiles.LOG2E
    del x166
    x168 = torch.where(valid > 0, x167, 0)
    del x167
    x169 = x21 * tiles.LOG2E
    del x21
    x170 = torch.where(valid > 0, x169, 0)
    del x169
    x171 = tiles.prefix_sum(x168, 2, exclusive=True)
    x172 = torch.exp2(x171)
    del x171
    x173 = tiles.segment_sum(x170, exclusive=True, strict=True)
    x174 = torch.exp2(x173)
    del x173
    x179 = tiles.prefix_sum(x170, 2, exclusive=True)
    x180 = torch.exp2(x179)
    del x179
    x181 = tiles.segment_sum(x168, exclusive=True, strict=True)
    x182 = torch.exp2(x181)
    del x181
    x200 = tiles.segment_sum(x170)
    x201 = torch.exp2(x200)
    del x200
    x204 = tiles.prefix_sum(x170, 2)
    x205 = torch.exp2(x204)
    del x204
    x220 = x168.sum(2)
    x221 = torch.exp2(x220)
    del x220
    x223 = tiles.suffix_sum(x168, 2, exclusive=True)
    del x168
    x224 = torch.exp2(x223)
    del x223
    x228 = tiles.suffix_sum(x170, 2, exclusive=True)
    x229 = torch.exp2(x228)
    del x228
    x235 = x170.sum(2)
    del x170
    x236 = torch.exp2(x235)
    del x235
    x1158 = x112[:, :, :, None] * x201
    x1349 = valid * x14
    x1350 = x22 * x29
    del x22
    x1351 = valid * x24
    x1352 = x29 * x1351
    del x1351
    x1353 = valid * x24
    x1354 = x12 * x1349
    x1355 = x29 * x1353
    del x1353
    x1356 = valid * x12
    del x12
    x1357 = x172 * x1354
    del x172
    x1358 = x14 * x1352
    x1359 = x14 * x1356
    del x1356, x14
    x1361 = x24 * x1349
    del x1349, x24
    x1363 = x112 * x205
    del x205
    x1364 = x180 * x1350
    del x180
    x1365 = x224 * x1355
    del x224
    x1372 = x29 * x1361
    del x1361, x29
    x1379 = x229 * x1354
    del x1354
    x1380 = x229 * x1357
    x1394 = x1350[:, :, :, None] * x174
    x1398 = x112 * x108
    x1401 = x1363 * x108
    del x1363
    x1406 = x1365[:, :, :, None] * k
    del x1365
    x1407 = x1380.sum(2)
    del x1380
    x1409 = x1379[:, :, :, None] * x182
    del x1379
    x1410 = x1409.sum(2)
    del x1409
    x1414 = tiles.addcmul_(x1410 * x1355, x229, x1372)
    del x1355, x1372, x1410, x229
    x1415 = x1414[:, :, :, None] * k
    del x1414
    x1432 = (x174 @ x1357[..., None]).squeeze(-1)
    x1433 = x1359[:, :, None] * x174
    del x174
    x1435 = x1433 @ x182
    del x1433
    x1436 = tiles.product(x1435, x1350[:, :, :, None], x1352[:, :, None])
    del x1435
    x1438 = tiles.addcmul_(-x1436, x1358[:, :, None], x1394, -1)
    del x1394, x1436
    x1439 = x81 * x1438
    del x1438, x81
    x1440 = x1432 * x1350
    del x1350, x1432
    x1445 = (x201 @ x1357[..., None]).squeeze(-1)
    del x1357
    x1446 = x112 * x1445
    del x112, x1445
    x1447 = x1446 * x108
    del x1446
    x1449 = x1359[:, :, None] * x201
    del x1359, x201
    x1451 = x1449 @ x182
    del x1449, x182
    x1452 = tiles.product(x1451, x1352[:, :, None], x1398[:, :, :, None])
    del x1352, x1398, x1451
    x1453 = (x1358 * x108)[:, :, None] * x1158
    del x1158, x1358
    x1454 = x1452 + x1453
    del x1452, x1453
    x1455 = x129 * x1454
    del x129, x1454
    x1456 = tiles.inverse(x1439)
    del x1439
    x1695 = x1401[:, :, :, None] * q
    del x1401
    x1697 = x1440[:, :, :, None] * k
    del x1440
    x1699 = x1364[:, :, :, None] * k
    del x1364
    x1703 = x1447[:, :, :, None] * q
    del x1447
    M_rows = scan.Rows(steps, H)
    S_rows = scan.Rows(steps, H)
    x1708_rows = scan.Rows(steps, H)
    (M, S) = scan.flat(h0)
    M_done = []
    S_done = []
    own = False
    for n, (
        v_c,
        x1697_c,
        x1699_c,
        x1456_c,
        x1695_c,
        x1703_c,
        x1455_c,
        x221_c,
        x1406_c,
        x1407_c,
        x236_c,
        x1415_c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            x1697,
            x1699,
            x1456,
            x1695,
            x1703,
            x1455,
            x221[:, :, None, None],
            x1406.mT,
            x1407[:, :, None, None],
            x236[:, :, None, None],
            x1415.mT,
        ),
    ):
        if M.shape[0] > n:
            M_done.append(M[n:])
            M = M[:n]
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            M_rows.put(M)
        if keep:
            S_rows.put(S)
        x1701 = scan.addmm(torch.baddbmm(v_c, x1697_c, M, alpha=-1), x1699_c, S, -1)
        x1705 = torch.bmm(x1456_c, x1701)
        x1708 = torch.bmm(x1695_c, S, out=x1708_rows.room(n))
        x1708 = scan.addmm(scan.addmm(x1708, x1703_c, M), x1455_c, x1705)
        x1710 = scan.addmm(x221_c * M, x1406_c, x1705)
        x1712 = tiles.addcmul_(scan.scale(S, x236_c, own), x1407_c, M)
        x1712 = scan.addmm(x1712, x1415_c, x1705)
        x1708_rows.put(x1708)
        M, S = x1710, x1712
        own = True
    M_end = torch.cat([M, *reversed(M_done)]) if M_done else M
    M_end = M_end.unflatten(0, (-1, H))
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x1708 = x1708_rows.joined()
    if keep:
        M = M_rows.joined()
        S = S_rows.joined()
    del M_rows
    del S_rows
    del x1708_rows
    del x1406, x1407, x1415, x1455, x1695, x1697, x1699, x1703, x221, x236
    return (x1708,), (M_end, S_end), (M, S, x1456) if keep else None


def chunked_states(args, valid, h0, steps, keep):
    (_, k, v, a_, m, b_, e, A_log, dt_bias) = args
    H = h0[0].shape[1]
    x12 = torch.sigmoid(m)
    x14 = torch.sigmoid(b_)
    x18 = torch.exp(A_log)
    x19 = a_ + dt_bias[:, :, None]
    x20 = tiles.softplus(x19)
    del x19
    x21 = (x18 * -1)[:, :, None] * x20
    del x18, x20
    x22 = torch.exp(x21)
    x24 = torch.sigmoid(e)
    x25 = k * k
    x26 = x25.sum(3)
    del x25
    x28 = x26 + 1e-06
    del x26
    x29 = torch.rsqrt(x28)
    del x28
    x81 = k @ k.mT
    x166 = F.logsigmoid(m)
    x167 = x166 * tiles.LOG2E
    del x166
    x168 = torch.where(valid > 0, x167, 0)
    del x167
    x169 = x21 * tiles.LOG2E
    del x21
    x170 = torch.where(valid > 0, x169, 0)
    del x169
    x171 = tiles.prefix_sum(x168, 2, exclusive=True)
    x172 = torch.exp2(x171)
    del x171
    x173 = tiles.segment_sum(x170, exclusive=True, strict=True)
    x174 = torch.exp2(x173)
    del x173
    x179 = tiles.prefix_sum(x170, 2, exclusive=True)
    x180 = torch.exp2(x179)
    del x179
    x181 = tiles.segment_sum(x168, exclusive=True, strict=True)
    x182 = torch.exp2(x181)
    del x181
    x220 = x168.sum(2)
    x221 = torch.exp2(x220)
    del x220
    x223 = tiles.suffix_sum(x168, 2, exclusive=True)
    del x168
    x224 = torch.exp2(x223)
    del x223
    x228 = tiles.suffix_sum(x170, 2, exclusive=True)
    x229 = torch.exp2(x228)
    del x228
    x235 = x170.sum(2)
    del x170
    x236 = torch.exp2(x235)
    del x235
    x1349 = valid * x14
    x1350 = x22 * x29
    del x22
    x1351 = valid * x24
    x1352 = x29 * x1351
    del x1351
    x1353 = valid * x24
    x1354 = x12 * x1349
    x1355 = x29 * x1353
    del x1353
    x1356 = valid * x12
    del x12
    x1357 = x172 * x1354
    del x172
    x1358 = x14 * x1352
    x1359 = x14 * x1356
    del x1356, x14
    x1361 = x24 * x1349
    del x1349, x24
    x1364 = x180 * x1350
    del x180
    x1365 = x224 * x1355
    del x224
    x1372 = x29 * x1361
    del x1361, x29
    x1379 = x229 * x1354
    del x1354
    x1380 = x229 * x1357
    x1394 = x1350[:, :, :, None] * x174
    x1406 = x1365[:, :, :, None] * k
    del x1365
    x1407 = x1380.sum(2)
    del x1380
    x1409 = x1379[:, :, :, None] * x182
    del x1379
    x1410 = x1409.sum(2)
    del x1409
    x1414 = tiles.addcmul_(x1410 * x1355, x229, x1372)
    del x1355, x1372, x1410, x229
    x1415 = x1414[:, :, :, None] * k
    del x1414
    x1432 = (x174 @ x1357[..., None]).squeeze(-1)
    del x1357
    x1433 = x1359[:, :, None] * x174
    del x1359, x174
    x1435 = x1433 @ x182
    del x1433, x182
    x1436 = tiles.product(x1435, x1350[:, :, :, None], x1352[:, :, None])
    del x1352, x1435
    x1438 = tiles.addcmul_(-x1436, x1358[:, :, None], x1394, -1)
    del x1358, x1394, x1436
    x1439 = x81 * x1438
    del x1438, x81
    x1440 = x1432 * x1350
    del x1350, x1432
    x1456 = tiles.inverse(x1439)
    del x1439
    x1697 = x1440[:, :, :, None] * k
    del x1440
    x1699 = x1364[:, :, :, None] * k
    del x1364
    M_rows = scan.Rows(steps, H)
    S_rows = scan.Rows(steps, H)
    (M, S) = scan.flat(h0)
    M_done = []
    S_done = []
    own = False
    for n, (
        v_c,
        x1697_c,
        x1699_c,
        x1456_c,
        x221_c,
        x1406_c,
        x1407_c,
        x236_c,
        x1415_c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            x1697,
            x1699,
            x1456,
            x221[:, :, None, None],
            x1406.mT,
            x1407[:, :, None, None],
            x236[:, :, None, None],
            x1415.mT,
        ),
    ):
        if M.shape[0] > n:
            M_done.append(M[n:])
            M = M[:n]
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            M_rows.put(M)
        if keep:
            S_rows.put(S)
        x1701 = scan.addmm(torch.baddbmm(v_c, x1697_c, M, alpha=-1), x1699_c, S, -1)
        x1705 = torch.bmm(x1456_c, x1701)
        x1710 = scan.addmm(x221_c * M, x1406_c, x1705)
        x1712 = tiles.addcmul_(scan.scale(S, x236_c, own), x1407_c, M)
        x1712 = scan.addmm(x1712, x1415_c, x1705)
        M, S = x1710, x1712
        own = True
    M_end = torch.cat([M, *reversed(M_done)]) if M_done else M
    M_end = M_end.unflatten(0, (-1, H))
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        M = M_rows.joined()
        S = S_rows.joined()
    del M_rows
    del S_rows
    del x1406, x1407, x1415, x1697, x1699, x221, x236
    return (), (M_end, S_end), (M, S, x1456) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, a_, m, b_, e, A_log, dt_bias) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (M, S, x1456) = kept
    (do,) = douts
    K = q.shape[3]
    C = valid.shape[2]
    H = h0[0].shape[1]
    x12 = torch.sigmoid(m)
    x14 = torch.sigmoid(b_)
    x18 = torch.exp(A_log)
    x19 = a_ + dt_bias[:, :, None]
    x20 = tiles.softplus(x19)
    x21 = (x18 * -1)[:, :, None] * x20
    x22 = torch.exp(x21)
    x24 = torch.sigmoid(e)
    x25 = k * k
    x26 = x25.sum(3)
    del x25
    x28 = x26 + 1e-06
    del x26
    x29 = torch.rsqrt(x28)
    del x28
    x50 = k @ M
    x55 = k @ S
    x81 = k @ k.mT
    x108 = (K) ** -0.5
    x109 = q * q
    x110 = x109.sum(3)
    del x109
    x111 = x110 + 1e-06
    del x110
    x112 = torch.rsqrt(x111)
    del x111
    x129 = q @ k.mT
    x166 = F.logsigmoid(m)
    x167 = x166 * tiles.LOG2E
    del x166
    x168 = torch.where(valid > 0, x167, 0)
    del x167
    x169 = x21 * tiles.LOG2E
    del x21
    x170 = torch.where(valid > 0, x169, 0)
    del x169
    x171 = tiles.prefix_sum(x168, 2, exclusive=True)
    x172 = torch.exp2(x171)
    del x171
    x173 = tiles.segment_sum(x170, exclusive=True, strict=True)
    x174 = torch.exp2(x173)
    del x173
    x179 = tiles.prefix_sum(x170, 2, exclusive=True)
    x180 = torch.exp2(x179)
    del x179
    x181 = tiles.segment_sum(x168, exclusive=True, strict=True)
    x182 = torch.exp2(x181)
    del x181
    x200 = tiles.segment_sum(x170)
    x201 = torch.exp2(x200)
    del x200
    x204 = tiles.prefix_sum(x170, 2)
    x205 = torch.exp2(x204)
    del x204
    x220 = x168.sum(2)
    x221 = torch.exp2(x220)
    del x220
    x223 = tiles.suffix_sum(x168, 2, exclusive=True)
    del x168
    x224 = torch.exp2(x223)
    del x223
    x228 = tiles.suffix_sum(x170, 2, exclusive=True)
    x229 = torch.exp2(x228)
    del x228
    x235 = x170.sum(2)
    del x170
    x236 = torch.exp2(x235)
    del x235
    x287 = tiles.LN2
    x529 = x182 * x287
    x564 = tiles.LOG2E
    x569 = m * -1
    x570 = torch.sigmoid(x569)
    del x569
    x577 = do @ S.mT
    x584 = do @ M.mT
    x630 = torch.sigmoid(x19)
    del x19
    x665 = -x24 + 1
    x691 = -x14 + 1
    x701 = -x12 + 1
    x759 = x24 * x665
    del x665
    x780 = x14 * x691
    del x691
    x783 = x12 * x701
    x1158 = x112[:, :, :, None] * x201
    x1349 = valid * x14
    x1350 = x22 * x29
    x1351 = valid * x24
    x1352 = x29 * x1351
    del x1351
    x1353 = valid * x24
    x1354 = x12 * x1349
    x1355 = x29 * x1353
    x1356 = valid * x12
    x1357 = x172 * x1354
    x1358 = x14 * x1352
    x1359 = x14 * x1356
    del x1356, x14
    x1360 = valid * x12
    del x12
    x1361 = x24 * x1349
    del x24
    x1362 = valid * x29
    x1363 = x112 * x205
    x1364 = x180 * x1350
    x1365 = x224 * x1355
    x1367 = x29 * x1349
    x1371 = x29 * x29
    x1372 = x29 * x1361
    x1373 = x29 * x1371
    del x1371
    x1375 = x172 * x229
    x1379 = x229 * x1354
    x1380 = x229 * x1357
    x1383 = x172 * x1359
    x1388 = x108 * x287
    x1390 = x112 * x112
    x1391 = x1390 * x112
    del x1390
    x1394 = x1350[:, :, :, None] * x174
    x1397 = valid * x564
    x1398 = x112 * x108
    x1401 = x1363 * x108
    x1407 = x1380.sum(2)
    x1409 = x1379[:, :, :, None] * x182
    x1410 = x1409.sum(2)
    del x1409
    x1414 = tiles.addcmul_(x1410 * x1355, x229, x1372)
    x1428 = x1363[:, :, :, None] * do
    x1432 = (x174 @ x1357[..., None]).squeeze(-1)
    x1433 = x1359[:, :, None] * x174
    x1435 = x1433 @ x182
    del x1433
    x1436 = tiles.product(x1435, x1350[:, :, :, None], x1352[:, :, None])
    x1438 = tiles.addcmul_(-x1436, x1358[:, :, None], x1394, -1)
    del x1436
    x1440 = x1432 * x1350
    x1443 = torch.addcmul(v, x1440[:, :, :, None], x50, value=-1)
    x1443 = tiles.addcmul_(x1443, x1364[:, :, :, None], x55, -1)
    x1445 = (x201 @ x1357[..., None]).squeeze(-1)
    x1446 = x112 * x1445
    x1447 = x1446 * x108
    x1449 = x1359[:, :, None] * x201
    x1451 = x1449 @ x182
    del x1449
    x1452 = tiles.product(x1451, x1352[:, :, None], x1398[:, :, :, None])
    x1453 = (x1358 * x108)[:, :, None] * x1158
    x1454 = x1452 + x1453
    del x1452, x1453
    x1455 = x129 * x1454
    x1457 = x1456 @ x1443
    del x1443
    x1465 = x1364[:, :, :, None] * k
    x1466 = x1455.mT @ do
    del x1455
    x1472 = x1446[:, :, :, None] * q
    del x1446
    x1507 = do @ x1457.mT
    x1508 = x1454 * x1507
    del x1454
    x1509 = x129 * x1507
    del x129, x1507
    x1510 = tiles.product(x1509, x1358[:, :, None], x1398[:, :, :, None])
    del x1398
    x1511 = x201 * x1509
    x1512 = x112[:, :, :, None] * x1511
    x1513 = x1512.sum(2)
    del x1512
    x1515 = x1358[:, :, None] * x1511
    del x1511
    x1516 = x1515.sum(3)
    del x1515
    x1517 = x1516 * x108
    del x1516
    x1518 = x1451 * x1509
    del x1451
    x1519 = x112[:, :, :, None] * x1518
    x1520 = x1519.sum(2)
    del x1519
    x1522 = x1352[:, :, None] * x1518
    del x1518
    x1523 = x1522.sum(3)
    del x1522
    x1524 = x1523 * x108
    del x1523
    x1525 = x1352[:, :, None] * x1509
    x1526 = x1525 @ x182.mT
    del x1525
    x1527 = x1158.mT @ x1509
    del x1158, x1509
    x1529 = x201 * x1526
    del x1526
    x1530 = x112[:, :, :, None] * x1529
    del x1529
    x1532 = x1530.sum(2)
    x1533 = (x1359 * x1388)[:, :, None] * x1530
    del x1530
    x1573 = tiles.product(x1527, (x1352 * x108)[:, :, None], x1354[:, :, :, None])
    del x1527
    x1601 = x1508.mT @ q
    x1617 = x1513 * x108
    del x1513
    x1618 = x1367 * x1617
    x1619 = x1520 * x108
    del x1520
    x1620 = x1362 * x1619
    x1627 = x1361 * x1617
    x1628 = x1353 * x1619
    del x1619
    x1634 = x1532 * x108
    del x1532
    x1635 = x1360 * x1634
    x1639 = x1349 * x1634
    del x1634
    x1646 = x1440[:, :, :, None] * k
    x1648 = x1355 * x1617
    del x1617
    x1713 = q * x577
    x1714 = x1713.sum(3)
    del x1713
    x1715 = x205 * x1714 * x108
    del x205
    x1720 = x1714 * x1363 * x1388
    del x1363, x1714
    x1721 = tiles.suffix_sum(x1720, 2)
    del x1720
    x1735 = q * x584
    x1736 = x1735.sum(3)
    del x1735
    x1737 = x1736 * x1445 * x108
    del x1445
    x1738 = x1715 + x1737 + x1517 + x1524
    del x1517, x1524, x1715, x1737
    x1739 = x1391 * x1738
    del x1391, x1738
    x1741 = tiles.addcmul_(x1401[:, :, :, None] * x577, x1447[:, :, :, None], x584)
    x1741 = tiles.addcmul_(x1741, x1739[:, :, :, None], q, -1)
    x1741 = tiles.addmm_(x1741, x1508, k)
    del x1401, x1447, x1508, x1739, x577, x584
    x1742 = x112 * x1736
    del x112, x1736
    x1743 = x1742 * x108
    del x1742
    x1745 = torch.addcmul(x1510, x1383[:, :, None], x1743[:, :, :, None])
    del x1510
    x1746 = x201 * x1745 * x287
    del x1745
    x1747 = x1533 + x1746
    del x1533, x1746
    x1748 = tiles.segment_sum_grad(x1747)
    del x1747
    x1755 = (x1743[..., None, :] @ x201).squeeze(-2)
    del x1743, x201
    x1777 = x1414[:, :, :, None] * k
    x1779 = x1365[:, :, :, None] * k
    x285_rows = scan.Rows(steps, H, True)
    x293_rows = scan.Rows(steps, H, True)
    x326_rows = scan.Rows(steps, H, True)
    x1475_rows = scan.Rows(steps, H, True)
    x1498_rows = scan.Rows(steps, H, True)
    x1782_rows = scan.Rows(steps, H, True)
    (dM_end, dS_end) = scan.flat(dht)
    dM = dM_end[:0]
    dS = dS_end[:0]
    own = False
    for n, (
        x1777_c,
        x1779_c,
        x1466_c,
        x1456_c,
        S_c,
        M_c,
        x1457_c,
        x236_c,
        q_c,
        x1428_c,
        x1465_c,
        x1407_c,
        x221_c,
        x1472_c,
        do_c,
        x1646_c,
    ) in scan.each(
        steps,
        H,
        (
            x1777,
            x1779,
            x1466,
            x1456.mT,
            S,
            M,
            x1457,
            x236[:, :, None, None],
            q.mT,
            x1428,
            x1465.mT,
            x1407[:, :, None, None],
            x221[:, :, None, None],
            x1472.mT,
            do,
            x1646.mT,
        ),
        True,
    ):
        if dM.shape[0] < n:
            dM = torch.cat([dM, dM_end[dM.shape[0] : n]])
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x1781 = scan.addmm(torch.baddbmm(x1466_c, x1777_c, dS), x1779_c, dM)
        x1782 = torch.bmm(x1456_c, x1781, out=x1782_rows.room(n))
        x284 = S_c * dS
        x285 = x284.sum(1)
        x292 = M_c * dS
        x293 = x292.sum(1)
        x325 = M_c * dM
        x326 = x325.sum(1)
        x1475 = torch.bmm(x1457_c, dS.mT, out=x1475_rows.room(n))
        x1498 = torch.bmm(x1457_c, dM.mT, out=x1498_rows.room(n))
        x1874 = scan.addmm(x236_c * dS, q_c, x1428_c, x108)
        x1874 = scan.addmm(x1874, x1465_c, x1782, -1)
        x1875 = tiles.addcmul_(scan.scale(dM, x221_c, own), x1407_c, dS)
        x1875 = scan.addmm(scan.addmm(x1875, x1472_c, do_c, x108), x1646_c, x1782, -1)
        x285_rows.put(x285)
        x293_rows.put(x293)
        x326_rows.put(x326)
        x1475_rows.put(x1475)
        x1498_rows.put(x1498)
        x1782_rows.put(x1782)
        dM, dS = x1875, x1874
        own = True
    dM_end = torch.cat([dM, dM_end[dM.shape[0] :]]) if dM.shape[0] < dM_end.shape[0] else dM
    dM_end = dM_end.unflatten(0, (-1, H))
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x285 = x285_rows.joined()
    x293 = x293_rows.joined()
    x326 = x326_rows.joined()
    x1475 = x1475_rows.joined()
    x1498 = x1498_rows.joined()
    x1782 = x1782_rows.joined()
    del x285_rows
    del x293_rows
    del x326_rows
    del x1475_rows
    del x1498_rows
    del x1782_rows
    del x1407, x1428, x1465, x1466, x1472, x1646, x1777, x1779
    x286 = x285.sum(2)
    del x285
    x289 = x236 * x286 * x287
    del x236, x286
    x290 = x289[:, :, None].expand(-1, -1, C)
    del x289
    x294 = x293.sum(2)
    del x293
    x327 = x326.sum(2)
    del x326
    x329 = x221 * x327 * x287
    del x221, x327
    x330 = x329[:, :, None].expand(-1, -1, C)
    del x329
    x1389 = x294 * x287
    x1404 = x294[:, :, None] * x1375
    del x1375
    x1477 = k * x1475
    x1478 = x1477.sum(3)
    del x1477
    x1479 = x229 * x1478
    x1484 = x1410 * x1478
    del x1410
    x1488 = x1478 * x1352
    x1489 = x1488[:, :, None] * x182
    x1490 = x1489.sum(3)
    del x1489
    x1491 = x229 * x1490
    x1495 = tiles.addcmul_(x294[:, :, None] * x1357, x1478, x1372)
    x1495 = tiles.addcmul_(x1495, x1490, x1354)
    del x1372, x1478, x1490, x294
    x1496 = x229 * x1495 * x287
    del x1495, x229
    x1497 = tiles.prefix_sum(x1496, 2, exclusive=True)
    del x1496
    x1500 = k * x1498
    x1501 = x1500.sum(3)
    del x1500
    x1502 = x224 * x1501
    del x224
    x1505 = x1501 * x1365 * x287
    del x1501
    x1506 = tiles.prefix_sum(x1505, 2, exclusive=True)
    del x1505
    x1578 = tiles.product(x529, x1379[:, :, :, None], x1488[:, :, None])
    del x1379, x1488
    x1658 = tiles.addcmul_(x1367 * x1479, x1362, x1484)
    x1658 = tiles.addcmul_(x1658, x1362, x1502)
    x1672 = tiles.addcmul_(x1360 * x1404, x1355, x1479)
    x1672 = tiles.addcmul_(x1672, x1360, x1491)
    x1674 = tiles.addcmul_(x1349 * x1404, x1349, x1491)
    del x1404, x1491
    x1784 = x1782 @ x1457.mT
    del x1457
    x1785 = x1784.tril(-1)
    del x1784
    x1786 = x55 * x1782
    del x55
    x1787 = x1786.sum(3)
    del x1786
    x1788 = x1787 * x1364 * -1 * x287
    x1789 = x50 * x1782
    del x50
    x1790 = x1789.sum(3)
    del x1789
    x1791 = x1790 * x1350
    x1792 = x1791 * -1
    x1793 = x1438 * x1785
    del x1438
    x1794 = x81 * x1785
    del x1785, x81
    x1795 = x174 * x1794
    x1796 = x1358[:, :, None] * x1795
    x1797 = x1796.sum(3)
    del x1796
    x1798 = x1350[:, :, :, None] * x1795
    del x1795
    x1799 = x1798.sum(2)
    del x1798
    x1801 = x1435 * x1794
    del x1435
    x1802 = x1352[:, :, None] * x1801
    x1803 = x1802.sum(3)
    del x1802
    x1804 = x1350[:, :, :, None] * x1801
    del x1801
    x1805 = x1804.sum(2)
    del x1804
    x1807 = x1352[:, :, None] * x1794
    x1808 = x1807 @ x182.mT
    del x1807, x182
    x1809 = x1394.mT @ x1794
    del x1394
    x1811 = x174 * x1808
    del x1808
    x1812 = x1350[:, :, :, None] * x1811
    del x1811
    x1814 = x1812.sum(2)
    x1816 = tiles.product(x1809, x1352[:, :, None], x1354[:, :, :, None])
    del x1352, x1354, x1809
    x1817 = x1573 - x1816
    del x1573, x1816
    x1819 = torch.addcmul(x1578, x1817, x529)
    del x1578, x1817, x529
    x1820 = tiles.segment_sum_grad(x1819, exclusive=True)
    del x1819
    x1821 = tiles.suffix_sum(x1788, 2, exclusive=True)
    del x1788
    x1822 = (x1792[..., None, :] @ x174).squeeze(-2)
    del x1792
    x1824 = tiles.product(x1794, x1350[:, :, :, None], x1358[:, :, None])
    del x1350, x1358, x1794
    x1826 = tiles.addcmul_(-x1824, x1383[:, :, None], x1791[:, :, :, None], -1)
    del x1383, x1791, x1824
    x1827 = x174 * x1826 * x287
    del x174, x1826
    x1828 = (x1359 * x287)[:, :, None] * x1812
    del x1359, x1812
    x1829 = x1827 - x1828
    del x1827, x1828
    x1830 = tiles.segment_sum_grad(x1829, exclusive=True)
    del x1829
    x1831 = x180 * x1787
    del x1787, x180
    x1833 = x1432 * x1790
    del x1432, x1790
    x1835 = tiles.addcmul_(x29 * -1 * x1831, x29, x1833, -1)
    x1836 = x22 * x1835
    del x1835
    x1837 = x20 * x1836
    x1839 = x1837.sum(2)
    del x1837
    x1840 = x630 * x1836
    del x1836
    x1842 = x1840.sum(2)
    x1844 = x1793.mT @ k
    x1847 = tiles.addcmul_(x1618 + x1620, x1799, x1367, -1)
    x1847 = tiles.addcmul_(x1847, x1805, x1362, -1)
    del x1362, x1367, x1618, x1620
    x1854 = tiles.addcmul_(x1627 + x1628, x22, x1831, -1)
    x1854 = tiles.addcmul_(tiles.addcmul_(x1854, x22, x1833, -1), x1799, x1361, -1)
    x1854 = tiles.addcmul_(x1854, x1805, x1353, -1)
    del x1627, x1628, x1805, x1831, x1833
    x1856 = torch.addcmul(x1635, x1814, x1360, value=-1)
    del x1635
    x1859 = torch.addcmul(x1639, x1814, x1349, value=-1)
    del x1349, x1639, x1814
    x1861 = x1782 @ S.mT
    x1863 = x1782 @ M.mT
    x1868 = tiles.addcmul_(x1361 * x1479, x1353, x1484)
    x1868 = tiles.addcmul_(tiles.addcmul_(x1868, x1353, x1502), x22, x1797, -1)
    x1868 = tiles.addcmul_(x1868, x22, x1803, -1)
    del x1353, x1361, x1479, x1484, x1502
    x1872 = tiles.addcmul_(x29 * -1 * x1797, x29, x1803, -1)
    del x1797, x1803, x29
    x1877 = tiles.addcmul_(x759 * x1847, x759, x1658)
    del x1658, x1847, x759
    x1882 = tiles.addcmul_(x1868 * -1 * x1373, x1854, x1373, -1)
    del x1373, x1854, x1868
    x1884 = tiles.addcmul_(x1601 + x1844, x1414[:, :, :, None], x1475)
    x1884 = tiles.addcmul_(x1884, x1365[:, :, :, None], x1498)
    x1884 = tiles.addcmul_(x1884, x1882[:, :, :, None], k)
    x1884 = tiles.addcmul_(x1884, x1364[:, :, :, None], x1861, -1)
    x1884 = tiles.addcmul_(x1884, x1440[:, :, :, None], x1863, -1)
    x1884 = tiles.addmm_(x1884, x1793, k)
    del x1364, x1365, x1414, x1440, x1475, x1498, x1601, x1793, x1844, x1861, x1863, x1882
    x1885 = x290 + x1721 + x1497 + x1748 + x1821 + x1830
    del x1497, x1721, x1748, x1821, x1830, x290
    x1887 = tiles.addcmul_(x1885 * x1397, x22, x1872)
    del x1872, x1885, x22
    x1888 = x630 * x1887
    del x630
    x1890 = tiles.addcmul_(x18[:, :, None] * -1 * x1888, x18[:, :, None], x1840, -1)
    del x1840
    x1891 = x1755 + x1822
    del x1755, x1822
    x1892 = x1891 * x1357
    del x1357
    x1893 = x1892 * x287
    x1894 = torch.addcmul(x1893, x1389[:, :, None], x1380)
    del x1380, x1389, x1893
    x1895 = tiles.suffix_sum(x1894, 2, exclusive=True)
    del x1894
    x1896 = x330 + x1506 + x1820 + x1895
    del x1506, x1820, x1895, x330
    x1897 = tiles.product(x570, x1896, x1397)
    del x1397, x1896, x570
    x1899 = tiles.addcmul_(torch.addcmul(x1897, x783, x1859), x701, x1892)
    x1899 = tiles.addcmul_(x1899, x783, x1674)
    del x1674, x1859, x1892, x1897, x701, x783
    x1900 = tiles.product(x172, x1891, x1360)
    del x1360, x172, x1891
    x1901 = tiles.addcmul_(x1648 + x1900, x1799, x1355, -1)
    del x1355, x1648, x1799, x1900
    x1903 = tiles.addcmul_(x780 * x1856, x780, x1901)
    x1903 = tiles.addcmul_(x1903, x780, x1672)
    del x1672, x1856, x1901, x780
    x1904 = x20 * x1887
    del x1887, x20
    x1905 = x1904.sum(2)
    del x1904
    x1906 = -x1839 - x1905
    del x1839, x1905
    x1907 = x18 * x1906
    del x1906
    x1908 = x1888.sum(2)
    del x1888
    x1910 = tiles.addcmul_(x18 * -1 * x1842, x18, x1908, -1)
    del x18, x1842, x1908
    return (x1741, x1884, x1782, x1890, x1899, x1903, x1877, x1907, x1910), (dM_end, dS_end)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, m, b_, e, A_log, dt_bias) = args
    K = q.shape[2]
    H = h0[0].shape[1]
    x12 = torch.exp(A_log)
    x13 = a_ + dt_bias
    x14 = tiles.softplus(x13)
    del x13
    x17 = k * k
    x18 = x17.sum(2)
    del x17
    x20 = x18 + 1e-06
    del x18
    x21 = torch.rsqrt(x20)
    del x20
    x27 = torch.sigmoid(m)
    x29 = torch.sigmoid(e)
    x33 = torch.sigmoid(b_)
    x34 = x27 * x33
    x41 = (K) ** -0.5
    x42 = q * q
    x43 = x42.sum(2)
    del x42
    x44 = x43 + 1e-06
    del x43
    x45 = torch.rsqrt(x44)
    del x44
    x201 = x21 * x29
    del x29
    x202 = x45 * x41
    del x45
    x204 = x33 * x201
    del x33
    x205 = x12 * x14
    del x12, x14
    x207 = x202[:, :, None] * q
    del x202
    x209 = x205 * -1
    del x205
    x210 = torch.exp(x209)
    del x209
    x211 = x210 * x21
    del x21
    x212 = x211[:, :, None] * k
    del x211
    x213 = x212 * -1
    del x212
    x286 = x201[:, :, None] * k
    del x201
    x289 = x204[:, :, None] * k
    del x204
    M_rows = scan.Rows(steps, H)
    S_rows = scan.Rows(steps, H)
    x292_rows = scan.Rows(steps, H)
    (M, S) = scan.flat(h0)
    M_done = []
    S_done = []
    own = False
    for n, (
        x213_c,
        v_c,
        x34_c,
        x210_c,
        x289_c,
        x207_c,
        x27_c,
        x286_c,
    ) in scan.each(
        steps,
        H,
        (
            x213,
            v,
            x34[:, :, None, None],
            x210[:, :, None, None],
            x289[:, :, :, None],
            x207,
            x27[:, :, None, None],
            x286[:, :, :, None],
        ),
    ):
        if M.shape[0] > n:
            M_done.append(M[n:])
            M = M[:n]
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            M_rows.put(M)
        if keep:
            S_rows.put(S)
        x214 = (x213_c[..., None, :] @ S).squeeze(-2)
        x215 = v_c + x214
        x291 = tiles.addcmul_(scan.scale(S, x210_c, own), x34_c, M)
        x291 = tiles.addcmul_(x291, x289_c, x215[:, None])
        x292 = (x207_c[..., None, :] @ x291).squeeze(-2)
        x288 = tiles.addcmul_(scan.scale(M, x27_c, own), x286_c, x215[:, None])
        x292_rows.put(x292)
        M, S = x288, x291
        own = True
    M_end = torch.cat([M, *reversed(M_done)]) if M_done else M
    M_end = M_end.unflatten(0, (-1, H))
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x292 = x292_rows.joined()
    if keep:
        M = M_rows.joined()
        S = S_rows.joined()
    del M_rows
    del S_rows
    del x292_rows
    del x207, x210, x213, x27, x286, x289, x34
    return (x292,), (M_end, S_end), (M, S) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, a_, m, b_, e, A_log, dt_bias) = args
    H = h0[0].shape[1]
    x12 = torch.exp(A_log)
    x13 = a_ + dt_bias
    x14 = tiles.softplus(x13)
    del x13
    x17 = k * k
    x18 = x17.sum(2)
    del x17
    x20 = x18 + 1e-06
    del x18
    x21 = torch.rsqrt(x20)
    del x20
    x27 = torch.sigmoid(m)
    x29 = torch.sigmoid(e)
    x33 = torch.sigmoid(b_)
    x34 = x27 * x33
    x201 = x21 * x29
    del x29
    x204 = x33 * x201
    del x33
    x205 = x12 * x14
    del x12, x14
    x209 = x205 * -1
    del x205
    x210 = torch.exp(x209)
    del x209
    x211 = x210 * x21
    del x21
    x212 = x211[:, :, None] * k
    del x211
    x213 = x212 * -1
    del x212
    x286 = x201[:, :, None] * k
    del x201
    x289 = x204[:, :, None] * k
    del x204
    M_rows = scan.Rows(steps, H)
    S_rows = scan.Rows(steps, H)
    (M, S) = scan.flat(h0)
    M_done = []
    S_done = []
    own = False
    for n, (
        x213_c,
        v_c,
        x27_c,
        x286_c,
        x34_c,
        x210_c,
        x289_c,
    ) in scan.each(
        steps,
        H,
        (
            x213,
            v,
            x27[:, :, None, None],
            x286[:, :, :, None],
            x34[:, :, None, None],
            x210[:, :, None, None],
            x289[:, :, :, None],
        ),
    ):
        if M.shape[0] > n:
            M_done.append(M[n:])
            M = M[:n]
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            M_rows.put(M)
        if keep:
            S_rows.put(S)
        x214 = (x213_c[..., None, :] @ S).squeeze(-2)
        x215 = v_c + x214
        x288 = tiles.addcmul_(x27_c * M, x286_c, x215[:, None])
        x291 = tiles.addcmul_(scan.scale(S, x210_c, own), x34_c, M)
        x291 = tiles.addcmul_(x291, x289_c, x215[:, None])
        M, S = x288, x291
        own = True
    M_end = torch.cat([M, *reversed(M_done)]) if M_done else M
    M_end = M_end.unflatten(0, (-1, H))
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        M = M_rows.joined()
        S = S_rows.joined()
    del M_rows
    del S_rows
    del x210, x213, x27, x286, x289, x34
    return (), (M_end, S_end), (M, S) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, a_, m, b_, e, A_log, dt_bias) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (M, S) = kept
    (do,) = douts
    K = q.shape[2]
    H = h0[0].shape[1]
    x12 = torch.exp(A_log)
    x13 = a_ + dt_bias
    x14 = tiles.softplus(x13)
    x17 = k * k
    x18 = x17.sum(2)
    del x17
    x20 = x18 + 1e-06
    del x18
    x21 = torch.rsqrt(x20)
    del x20
    x27 = torch.sigmoid(m)
    x29 = torch.sigmoid(e)
    x33 = torch.sigmoid(b_)
    x34 = x27 * x33
    x41 = (K) ** -0.5
    x42 = q * q
    x43 = x42.sum(2)
    del x42
    x44 = x43 + 1e-06
    del x43
    x45 = torch.rsqrt(x44)
    del x44
    x130 = -x33 + 1
    x150 = -x29 + 1
    x158 = -x27 + 1
    x188 = torch.sigmoid(x13)
    del x13
    x201 = x21 * x29
    x202 = x45 * x41
    x204 = x33 * x201
    x205 = x12 * x14
    del x14
    x207 = x202[:, :, None] * q
    x209 = x205 * -1
    x210 = torch.exp(x209)
    del x209
    x211 = x210 * x21
    x212 = x211[:, :, None] * k
    x213 = x212 * -1
    x214 = (x213[..., None, :] @ S).squeeze(-2)
    del x213
    x215 = v + x214
    del x214
    x220 = (x204[:, :, None] * k)[:, :, :, None] * x215[:, :, None]
    x221 = torch.addcmul(x220, x34[:, :, None, None], M)
    x221 = tiles.addcmul_(x221, x210[:, :, None, None], S)
    del x220
    x223 = (do[..., None, :] @ x221.mT).squeeze(-2)
    del x221
    x224 = do[:, :, None] * x207[:, :, :, None]
    del x207
    x226 = q * x223
    x227 = x226.sum(2)
    del x226
    x228 = tiles.product(x45, x45, x227, x202, (-0.5))
    del x227, x45
    x285 = tiles.addcmul_(x202[:, :, None] * x223, x228[:, :, None], q, 2)
    del x202, x223, x228
    x141_rows = scan.Rows(steps, H, True)
    x155_rows = scan.Rows(steps, H, True)
    x230_rows = scan.Rows(steps, H, True)
    x235_rows = scan.Rows(steps, H, True)
    x256_rows = scan.Rows(steps, H, True)
    x267_rows = scan.Rows(steps, H, True)
    (dM_end, dS_end) = scan.flat(dht)
    dM = dM_end[:0]
    dS = dS_end[:0]
    own = False
    for n, (
        k_c,
        x224_c,
        x204_c,
        x201_c,
        M_c,
        x215_c,
        x34_c,
        x27_c,
        x210_c,
        x212_c,
    ) in scan.each(
        steps,
        H,
        (
            k,
            x224,
            x204[:, :, None],
            x201[:, :, None],
            M,
            x215,
            x34[:, :, None, None],
            x27[:, :, None, None],
            x210[:, :, None, None],
            x212[:, :, :, None],
        ),
        True,
    ):
        if dM.shape[0] < n:
            dM = torch.cat([dM, dM_end[dM.shape[0] : n]])
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x140 = k_c[:, :, None] * dM
        x141 = x140.sum(1)
        x230 = dS + x224_c
        x234 = k_c[:, :, None] * x230
        x235 = x234.sum(1)
        x267 = tiles.addcmul_(x204_c * x235, x201_c, x141)
        x154 = M_c * dM
        x155 = x154.sum(1)
        x255 = x215_c[:, None] * dM
        x256 = x255.sum(2)
        x282 = tiles.addcmul_(scan.scale(dM, x27_c, own), x34_c, x230)
        x294 = tiles.addcmul_(x210_c * x230, x212_c, x267[:, None], -1)
        x141_rows.put(x141)
        x155_rows.put(x155)
        x230_rows.put(x230)
        x235_rows.put(x235)
        x256_rows.put(x256)
        x267_rows.put(x267)
        dM, dS = x282, x294
        own = True
    dM_end = torch.cat([dM, dM_end[dM.shape[0] :]]) if dM.shape[0] < dM_end.shape[0] else dM
    dM_end = dM_end.unflatten(0, (-1, H))
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x141 = x141_rows.joined()
    x155 = x155_rows.joined()
    x230 = x230_rows.joined()
    x235 = x235_rows.joined()
    x256 = x256_rows.joined()
    x267 = x267_rows.joined()
    del x141_rows
    del x155_rows
    del x230_rows
    del x235_rows
    del x256_rows
    del x267_rows
    del x212, x224, x34
    x156 = x155.sum(2)
    del x155
    x231 = x215[:, :, None] * x230
    x232 = x231.sum(3)
    del x231
    x236 = x215 * x235
    del x235
    x237 = x236.sum(2)
    del x236
    x238 = x33 * x237
    x244 = S * x230
    x245 = x244.sum(2)
    del x244
    x246 = x245.sum(2)
    del x245
    x248 = M * x230
    del x230
    x249 = x248.sum(2)
    del x248
    x250 = x249.sum(2)
    del x249
    x253 = tiles.addcmul_(x237 * x201, x27, x250)
    del x237
    x254 = tiles.product(x33, x253, x130)
    del x130, x253
    x258 = x215 * x141
    del x141, x215
    x259 = x258.sum(2)
    del x258
    x263 = tiles.addcmul_(x21 * x238, x21, x259)
    x264 = tiles.product(x29, x263, x150)
    del x150, x263
    x265 = torch.addcmul(x156, x33, x250)
    del x156, x250, x33
    x266 = tiles.product(x27, x265, x158)
    del x158, x265, x27
    x268 = (x267[..., None, :] @ S.mT).squeeze(-2)
    x269 = k * x268
    x270 = x269.sum(2)
    del x269
    x272 = tiles.addcmul_(tiles.addcmul_(x29 * x238, x29, x259), x210, x270, -1)
    del x238, x259, x29
    x273 = tiles.product(x21, x21, x21, x272, (-0.5))
    del x272
    x276 = torch.addcmul(x246, x21, x270, value=-1)
    del x21, x246, x270
    x277 = x210 * x276
    del x210, x276
    x278 = tiles.product(x12, x277, x188, (-1))
    del x12, x188
    x279 = x277 * x205 * -1
    del x205, x277
    x284 = tiles.addcmul_(x204[:, :, None] * x232, x201[:, :, None], x256)
    x284 = tiles.addcmul_(x284, x273[:, :, None], k, 2)
    x284 = tiles.addcmul_(x284, x211[:, :, None], x268, -1)
    del x201, x204, x211, x232, x256, x268, x273
    return (x285, x284, x267, x278, x266, x254, x264, x279, x278), (dM_end, dS_end)

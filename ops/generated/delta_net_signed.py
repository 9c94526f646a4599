"""delta_net_signed: generated from its spec by rnnc; do not edit.

S[t] = S[t-1] + beta * u @ (v - S[t-1].T @ u).T
o[t] = S[t].T @ unit(q)
  beta = 2 * sigmoid(b)
  u = unit(k)

In a chunk of C tokens with the incoming state S_in:
  w = beta * u,  f = -u
  q_ = unit(q)
  P[i,j] = f[i]^T w[j],  j < i
  U = (I - P)^-1 (v + f S_in)
  A[i,j] = q_[i]^T w[j],  j <= i
  r = A U + q_ S_in
  S_out = S_in + w^T U
"""

import torch

from rnnc.ops import tiles

NAME = "delta_net_signed"
SPEC_HASH = "7ea1704d97fe300aca557aabbd6bf0b5c82460b80505ac05055686c61be91d6b"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)), ("b", ()))
PARAMS = ()
STATES = (("S", ("K", "V")),)
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, b_) = args
    x7 = torch.sigmoid(b_)
    x8 = k * k
    x9 = x8.sum(3)
    del x8
    x11 = x9 + 1e-06
    del x9
    x12 = torch.rsqrt(x11)
    del x11
    x31 = k @ k.mT
    x38 = q * q
    x39 = x38.sum(3)
    del x38
    x40 = x39 + 1e-06
    del x39
    x41 = torch.rsqrt(x40)
    del x40
    x45 = q @ k.mT
    x398 = valid * x7
    x399 = x12 * x398
    del x398
    x400 = valid * x7
    del x7
    x401 = x12 * x400
    del x400
    x408 = x399[:, :, :, None] * k
    del x399
    x410 = tiles.product(x31, (x12 * -2)[:, :, :, None], x401[:, :, None])
    del x31
    x411 = tiles.product(x45, (x41 * 2)[:, :, :, None], x401[:, :, None])
    del x401, x45
    x412 = x411.tril(0)
    del x411
    x413 = tiles.inverse(x410)
    del x410
    S_all, x417_all = [], []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        k_c = k[a:b]
        v_c = v[a:b]
        x12_c = x12[a:b]
        q_c = q[a:b]
        x413_c = x413[a:b]
        x41_c = x41[a:b]
        x412_c = x412[a:b]
        x408_c = x408[a:b]
        x18 = k_c @ S
        x21 = torch.addcmul(v_c, x12_c[:, :, :, None], x18, value=-1)
        x43 = q_c @ S
        x414 = x413_c @ x21
        x417 = tiles.addmm_(x41_c[:, :, :, None] * x43, x412_c, x414)
        x419 = torch.add(S, x408_c.mT @ x414, alpha=2)
        x417_all.append(x417)
        S = x419
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    x417 = torch.cat(x417_all)
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x417_all
    del x12, x408, x41, x412
    return (x417,), (S_end,), (S, x413) if keep else None


def chunked_states(args, valid, h0, steps, keep):
    (_, k, v, b_) = args
    x7 = torch.sigmoid(b_)
    x8 = k * k
    x9 = x8.sum(3)
    del x8
    x11 = x9 + 1e-06
    del x9
    x12 = torch.rsqrt(x11)
    del x11
    x31 = k @ k.mT
    x398 = valid * x7
    x399 = x12 * x398
    del x398
    x400 = valid * x7
    del x7
    x401 = x12 * x400
    del x400
    x408 = x399[:, :, :, None] * k
    del x399
    x410 = tiles.product(x31, (x12 * -2)[:, :, :, None], x401[:, :, None])
    del x31, x401
    x413 = tiles.inverse(x410)
    del x410
    S_all = []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        k_c = k[a:b]
        v_c = v[a:b]
        x12_c = x12[a:b]
        x413_c = x413[a:b]
        x408_c = x408[a:b]
        x18 = k_c @ S
        x21 = torch.addcmul(v_c, x12_c[:, :, :, None], x18, value=-1)
        x414 = x413_c @ x21
        x419 = torch.add(S, x408_c.mT @ x414, alpha=2)
        S = x419
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x12, x408
    return (), (S_end,), (S, x413) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, b_) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, x413) = kept
    (do,) = douts
    x7 = torch.sigmoid(b_)
    x8 = k * k
    x9 = x8.sum(3)
    del x8
    x11 = x9 + 1e-06
    del x9
    x12 = torch.rsqrt(x11)
    del x11
    x13 = x12[:, :, :, None] * k
    x18 = k @ S
    x21 = torch.addcmul(v, x12[:, :, :, None], x18, value=-1)
    x31 = k @ k.mT
    x38 = q * q
    x39 = x38.sum(3)
    del x38
    x40 = x39 + 1e-06
    del x39
    x41 = torch.rsqrt(x40)
    del x40
    x43 = q @ S
    x45 = q @ k.mT
    x101 = x43 * do
    del x43
    x102 = x41[:, :, :, None] * do
    x103 = x101.sum(3)
    del x101
    x105 = do @ S.mT
    x108 = q.mT @ x102
    del x102
    x180 = -x7 + 1
    x398 = valid * x7
    x399 = x12 * x398
    x400 = valid * x7
    x401 = x12 * x400
    del x400
    x402 = valid * x12
    x403 = x12 * x12
    x404 = x12 * x403
    del x403
    x405 = x41 * x41
    x406 = x405 * x41
    del x405
    x411 = tiles.product(x45, (x41 * 2)[:, :, :, None], x401[:, :, None])
    x412 = x411.tril(0)
    del x411
    x414 = x413 @ x21
    del x21
    x420 = x412.mT @ do
    del x412
    x426 = do @ x414.mT
    x427 = x426.tril(0)
    del x426
    x428 = x45 * x427
    del x45
    x429 = x41[:, :, :, None] * x428
    x430 = x429.sum(2)
    del x429
    x432 = x401[:, :, None] * x428
    del x428
    x433 = x432.sum(3)
    del x432
    x434 = x401[:, :, None] * x427
    x435 = x434 @ k
    del x434
    x436 = x41[:, :, :, None] * x427
    del x427
    x437 = x436.mT @ q
    del x436
    x438 = torch.add(x103, x433, alpha=2)
    del x103, x433
    x453 = x430 * x402
    x459 = x430 * x398
    del x430
    x463 = x399[:, :, :, None] * x437
    del x437
    x482 = x406 * x438
    del x406, x438
    x484 = tiles.addcmul_(x41[:, :, :, None] * x105, x41[:, :, :, None], x435, 2)
    x484 = tiles.addcmul_(x484, x482[:, :, :, None], q, -1)
    del x105, x41, x435, x482
    dS_all, x439_all = [], []
    (dS_end,) = dht
    dS = dS_end[:0]
    for a, b in reversed(steps):
        if dS.shape[0] < b - a:
            dS = torch.cat([dS, dS_end[dS.shape[0] : b - a]])
        dS_all.append(dS)
        k_c = k[a:b]
        x420_c = x420[a:b]
        x399_c = x399[a:b]
        x413_c = x413[a:b]
        x108_c = x108[a:b]
        x13_c = x13[a:b]
        x62 = k_c @ dS
        x422 = torch.addcmul(x420_c, x399_c[:, :, :, None], x62, value=2)
        x439 = x413_c.mT @ x422
        x471 = tiles.addmm_(dS + x108_c, x13_c.mT, x439, -1)
        x439_all.append(x439)
        dS = x471
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS = torch.cat(dS_all[::-1])
    x439 = torch.cat(x439_all[::-1])
    del dS_all
    del x439_all
    del x108, x13, x420
    x423 = x414 @ dS.mT
    del dS
    x424 = k * x423
    x425 = x424.sum(3)
    del x424
    x441 = x439 @ x414.mT
    del x414
    x442 = x441.tril(-1)
    del x441
    x443 = x31 * x442
    del x31
    x444 = x401[:, :, None] * x443
    x445 = x444.sum(3)
    del x444
    x446 = x12[:, :, :, None] * x443
    del x443
    x447 = x446.sum(2)
    del x446
    x449 = x401[:, :, None] * x442
    del x401
    x450 = x449 @ k
    del x449
    x451 = x12[:, :, :, None] * x442
    del x442
    x452 = x451.mT @ k
    del x451
    x455 = tiles.addcmul_(2 * x453, x447, x402, -2)
    del x402, x453
    x456 = tiles.product(x7, x180, x455)
    del x455, x7
    x457 = x18 * x439
    del x18
    x458 = x457.sum(3)
    del x457
    x461 = tiles.addcmul_(torch.add(-x458, x459, alpha=2), x447, x398, -2)
    del x447, x458, x459
    x466 = x439 @ S.mT
    x469 = tiles.addcmul_(-2 * x445, x425, x398, 2)
    del x398, x445
    x472 = tiles.product(x180, x425, x399)
    del x180, x425
    x473 = torch.add(x456, x472, alpha=2)
    del x456, x472
    x478 = tiles.addcmul_(x469 * -1 * x404, x461, x404, -1)
    del x404, x461, x469
    x480 = tiles.addcmul_(2 * x463, x478[:, :, :, None], k)
    x480 = tiles.addcmul_(x480, x399[:, :, :, None], x452, -2)
    x480 = tiles.addcmul_(x480, x399[:, :, :, None], x423, 2)
    x480 = tiles.addcmul_(x480, x12[:, :, :, None], x450, -2)
    x480 = tiles.addcmul_(x480, x12[:, :, :, None], x466, -1)
    del x12, x399, x423, x450, x452, x463, x466, x478
    return (x484, x480, x439, x473), (dS_end,)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, b_) = args
    x6 = k * k
    x7 = x6.sum(2)
    del x6
    x9 = x7 + 1e-06
    del x7
    x10 = torch.rsqrt(x9)
    del x9
    x12 = (x10 * -1)[:, :, None] * k
    x17 = torch.sigmoid(b_)
    x22 = q * q
    x23 = x22.sum(2)
    del x22
    x24 = x23 + 1e-06
    del x23
    x25 = torch.rsqrt(x24)
    del x24
    x26 = x25[:, :, None] * q
    del x25
    x88 = x10 * x17
    del x10, x17
    S_all, x92_all = [], []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        x12_c = x12[a:b]
        v_c = v[a:b]
        k_c = k[a:b]
        x88_c = x88[a:b]
        x26_c = x26[a:b]
        x14 = (x12_c[..., None, :] @ S).squeeze(-2)
        x15 = v_c + x14
        x90 = (x88_c[:, :, None] * k_c)[:, :, :, None] * x15[:, :, None]
        x91 = torch.add(S, x90, alpha=2)
        x92 = (x26_c[..., None, :] @ x91).squeeze(-2)
        x92_all.append(x92)
        S = x91
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    x92 = torch.cat(x92_all)
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x92_all
    del x12, x26, x88
    return (x92,), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, b_) = args
    x6 = k * k
    x7 = x6.sum(2)
    del x6
    x9 = x7 + 1e-06
    del x7
    x10 = torch.rsqrt(x9)
    del x9
    x12 = (x10 * -1)[:, :, None] * k
    x17 = torch.sigmoid(b_)
    x88 = x10 * x17
    del x10, x17
    S_all = []
    (S,) = h0
    S_done = []
    for a, b in steps:
        if S.shape[0] > b - a:
            S_done.append(S[b - a :])
            S = S[: b - a]
        S_all.append(S)
        x12_c = x12[a:b]
        v_c = v[a:b]
        k_c = k[a:b]
        x88_c = x88[a:b]
        x14 = (x12_c[..., None, :] @ S).squeeze(-2)
        x15 = v_c + x14
        x90 = (x88_c[:, :, None] * k_c)[:, :, :, None] * x15[:, :, None]
        x91 = torch.add(S, x90, alpha=2)
        S = x91
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    if keep:
        S = torch.cat(S_all)
    del S_all
    del x12, x88
    return (), (S_end,), (S,) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, b_) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    x6 = k * k
    x7 = x6.sum(2)
    del x6
    x9 = x7 + 1e-06
    del x7
    x10 = torch.rsqrt(x9)
    del x9
    x12 = (x10 * -1)[:, :, None] * k
    x14 = (x12[..., None, :] @ S).squeeze(-2)
    del x12
    x15 = v + x14
    del x14
    x17 = torch.sigmoid(b_)
    x22 = q * q
    x23 = x22.sum(2)
    del x22
    x24 = x23 + 1e-06
    del x23
    x25 = torch.rsqrt(x24)
    del x24
    x26 = x25[:, :, None] * q
    x62 = -x17 + 1
    x88 = x10 * x17
    x89 = x10 * x88
    x90 = (x88[:, :, None] * k)[:, :, :, None] * x15[:, :, None]
    x91 = torch.add(S, x90, alpha=2)
    del x90
    x93 = (do[..., None, :] @ x91.mT).squeeze(-2)
    del x91
    x94 = do[:, :, None] * x26[:, :, :, None]
    del x26
    x95 = x25[:, :, None] * x93
    x96 = q * x93
    del x93
    x97 = x96.sum(2)
    del x96
    x98 = tiles.product(x25, x25, x25, x97, (-0.5))
    del x25, x97
    x99 = x98[:, :, None] * q
    del x98
    x121 = torch.add(x95, x99, alpha=2)
    del x95, x99
    x100_all, x105_all = [], []
    (dS_end,) = dht
    dS = dS_end[:0]
    for a, b in reversed(steps):
        if dS.shape[0] < b - a:
            dS = torch.cat([dS, dS_end[dS.shape[0] : b - a]])
        x94_c = x94[a:b]
        k_c = k[a:b]
        x89_c = x89[a:b]
        x100 = torch.add(2 * dS, x94_c, alpha=2)
        x104 = k_c[:, :, :, None] * x100
        x105 = x104.sum(2)
        x117 = (x89_c[:, :, None] * k_c)[:, :, :, None] * x105[:, :, None]
        x118 = dS + x94_c - x117
        x100_all.append(x100)
        x105_all.append(x105)
        dS = x118
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    x100 = torch.cat(x100_all[::-1])
    x105 = torch.cat(x105_all[::-1])
    del x100_all
    del x105_all
    del x89, x94
    x101 = x15[:, :, None] * x100
    del x100
    x102 = x101.sum(3)
    del x101
    x103 = x88[:, :, None] * x102
    del x102
    x106 = x15 * x105
    del x15
    x107 = x106.sum(2)
    del x106
    x108 = x17 * x107
    del x17
    x109 = x88[:, :, None] * x105
    del x105
    x110 = tiles.product(x107, x62, x88)
    del x107, x62, x88
    x111 = (x109[..., None, :] @ S.mT).squeeze(-2)
    x112 = k * x111
    x113 = x112.sum(2)
    del x112
    x114 = x108 - x113
    del x108, x113
    x115 = tiles.product(x10, x10, x10, x114, (-0.5))
    del x114
    x116 = x115[:, :, None] * k
    del x115
    x119 = x10[:, :, None] * x111
    del x10, x111
    x120 = torch.add(x103, x116, alpha=2) - x119
    del x103, x116, x119
    return (x121, x120, x109, x110), (dS_end,)

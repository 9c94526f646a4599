"""linear_attention: generated from its spec by rnnc; do not edit.

S[t] = S[t-1] + phi_k @ v.T
o[t] = S[t].T @ phi_q
  phi_q = elu(q) + 1
  phi_k = elu(k) + 1

In a chunk of C tokens with the incoming state S_in:
  w = phi_k
  q_ = phi_q
  A[i,j] = q_[i]^T w[j],  j <= i
  r = A v + q_ S_in
  S_out = S_in + w^T v
"""

import torch
import torch.nn.functional as F

from rnnc.ops import scan, tiles

NAME = "linear_attention"
SPEC_HASH = "8f70792284d67ccda2e478e584f2f011463c3666c46a9acd7e7a985645021949"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)))
PARAMS = ()
STATES = (("S", ("K", "V")),)
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v) = args
    H = h0[0].shape[1]
    x6 = F.elu(k)
    x7 = x6 + 1
    del x6
    x8 = valid[:, :, :, None] * x7
    x9 = F.elu(q)
    x10 = x9 + 1
    del x9
    x78 = x10 @ x7.mT
    del x7
    x79 = valid[:, :, None] * x78
    del x78
    x80 = x79.tril(0)
    del x79
    x81 = x80 @ v
    del x80
    S_rows = scan.Rows(steps, H)
    x82_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (x10_c, x81_c, x8_c, v_c) in scan.each(steps, H, (x10, x81, x8.mT, v)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x82 = torch.baddbmm(x81_c, x10_c, S, out=x82_rows.room(n))
        x24 = scan.addmm(scan.scale(S, 1, own), x8_c, v_c)
        x82_rows.put(x82)
        S = x24
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x82 = x82_rows.joined()
    if keep:
        S = S_rows.joined()
    del S_rows
    del x82_rows
    del x10, x8, x81
    return (x82,), (S_end,), (S,) if keep else None


def chunked_states(args, valid, h0, steps, keep):
    (_, k, v) = args
    H = h0[0].shape[1]
    x6 = F.elu(k)
    x7 = x6 + 1
    del x6
    x8 = valid[:, :, :, None] * x7
    del x7
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (x8_c, v_c) in scan.each(steps, H, (x8.mT, v)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x24 = scan.addmm(scan.scale(S, 1, own), x8_c, v_c)
        S = x24
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del x8
    return (), (S_end,), (S,) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    H = h0[0].shape[1]
    x6 = F.elu(k)
    x7 = x6 + 1
    del x6
    x9 = F.elu(q)
    x10 = x9 + 1
    del x9
    x33 = do @ v.mT
    x37 = x33.tril(0)
    del x33
    x39 = valid[:, :, None] * x37
    x44 = x37.mT @ x10
    del x37
    x52 = torch.minimum(x7, torch.as_tensor(1, dtype=x7.dtype, device=x7.device))
    x62 = torch.minimum(x10, torch.as_tensor(1, dtype=x10.dtype, device=x10.device))
    x78 = x10 @ x7.mT
    x79 = valid[:, :, None] * x78
    del x78
    x80 = x79.tril(0)
    del x79
    x83 = x80.mT @ do
    del x80
    x86 = tiles.addmm_(do @ S.mT, x39, x7)
    del x39
    x87 = x62 * x86
    del x62, x86
    x89 = valid[:, :, :, None] * x52
    del x52
    x90 = x44 * x89
    del x44
    x28_rows = scan.Rows(steps, H, True)
    x30_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (v_c, x7_c, x10_c, do_c) in scan.each(steps, H, (v, x7, x10.mT, do), True):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x28 = torch.bmm(v_c, dS.mT, out=x28_rows.room(n))
        x30 = torch.bmm(x7_c, dS, out=x30_rows.room(n))
        x71 = scan.addmm(scan.scale(dS, 1, own), x10_c, do_c)
        x28_rows.put(x28)
        x30_rows.put(x30)
        dS = x71
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x28 = x28_rows.joined()
    x30 = x30_rows.joined()
    del x28_rows
    del x30_rows
    del x10, x7
    x88 = torch.addcmul(x83, valid[:, :, :, None], x30)
    del x30, x83
    x92 = torch.addcmul(x90, x28, x89)
    del x28, x89, x90
    return (x87, x92, x88), (dS_end,)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v) = args
    H = h0[0].shape[1]
    x5 = F.elu(k)
    x6 = x5 + 1
    del x5
    x7 = v[:, :, None] * x6[:, :, :, None]
    del x6
    x9 = F.elu(q)
    x10 = x9 + 1
    del x9
    S_rows = scan.Rows(steps, H)
    x11_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (x7_c, x10_c) in scan.each(steps, H, (x7, x10)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x8 = scan.scale(S, 1, own) + x7_c
        x11 = (x10_c[..., None, :] @ x8).squeeze(-2)
        x11_rows.put(x11)
        S = x8
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x11 = x11_rows.joined()
    if keep:
        S = S_rows.joined()
    del S_rows
    del x11_rows
    del x10, x7
    return (x11,), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v) = args
    H = h0[0].shape[1]
    x5 = F.elu(k)
    x6 = x5 + 1
    del x5
    x7 = v[:, :, None] * x6[:, :, :, None]
    del x6
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (x7_c,) in scan.each(steps, H, (x7,)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x8 = scan.scale(S, 1, own) + x7_c
        S = x8
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del x7
    return (), (S_end,), (S,) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    H = h0[0].shape[1]
    x5 = F.elu(k)
    x6 = x5 + 1
    del x5
    x8 = torch.addcmul(S, v[:, :, None], x6[:, :, :, None])
    x9 = F.elu(q)
    x10 = x9 + 1
    del x9
    x15 = (do[..., None, :] @ x8.mT).squeeze(-2)
    del x8
    x16 = x10[:, :, :, None] * do[:, :, None]
    x19 = torch.minimum(x10, torch.as_tensor(1, dtype=x10.dtype, device=x10.device))
    del x10
    x20 = x15 * x19
    del x15, x19
    x27 = torch.minimum(x6, torch.as_tensor(1, dtype=x6.dtype, device=x6.device))
    x21_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (x16_c,) in scan.each(steps, H, (x16,), True):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x21 = scan.scale(dS, 1, own) + x16_c
        x21_rows.put(x21)
        dS = x21
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x21 = x21_rows.joined()
    del x21_rows
    del x16
    x22 = x6[:, :, :, None] * x21
    del x6
    x23 = v[:, :, None] * x21
    del x21
    x24 = x22.sum(2)
    del x22
    x25 = x23.sum(3)
    del x23
    x28 = x25 * x27
    del x25, x27
    return (x20, x28, x24), (dS_end,)

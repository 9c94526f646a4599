"""rwkv6: generated from its spec by rnnc; do not edit.

S[t] = decay * S[t-1] + k @ v.T
o[t] = S[t-1].T @ r + ((k * r).T @ u) * v
  decay = exp(-exp(w0 + w))

In a chunk of C tokens with the incoming state S_in:
  D = decay
  w_ = k
  q = r
  G[i] = D[1] * ... * D[i],  G[0] = 1
  A[i,j] = q[i]^T (G[i-1]/G[j]) w_[j],  j < i
  r_ = A v + (q * G[i-1]) S_in
  S_out = G[C] * S_in + (w_ * G[C]/G)^T v
"""

import torch

from rnnc.ops import scan, tiles

NAME = "rwkv6"
SPEC_HASH = "50f9f96a077e30028c1e98fa39b4bb81f72eb237f95c445ee5045f871af02d2a"
INPUTS = (("r", ("K",)), ("w", ("K",)), ("k", ("K",)), ("v", ("V",)))
PARAMS = (("w0", ("K",)), ("u", ("K",)))
STATES = (("S", ("K", "V")),)
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (r, w, k, v, w0, u) = args
    H = h0[0].shape[1]
    x9 = w + w0[:, :, None]
    x10 = torch.exp(x9)
    del x9
    x11 = x10 * -1
    del x10
    x14 = valid[:, :, :, None] * k
    x37 = x11 * tiles.LOG2E
    del x11
    x38 = torch.where(valid[:, :, :, None] > 0, x37, 0)
    del x37
    x39 = tiles.prefix_sum(x38, 2, exclusive=True)
    x40 = torch.exp2(x39)
    del x39
    x41 = r * x40
    del x40
    x46 = tiles.suffix_sum(x38, 2, exclusive=True)
    x47 = torch.exp2(x46)
    del x46
    x50 = x38.sum(2)
    x51 = torch.exp2(x50)
    del x50
    x54 = k * x47
    del x47
    f1 = tiles.decay_factors(x38, exclusive=True)
    x128 = tiles.decay_dot(r, x14, f1, strict=True)
    del f1, x14, x38
    x129 = x128 @ v
    x142 = r * k
    x144 = valid[:, :, :, None] * x54
    del x54
    x146 = u[:, :, None] * x142
    del x142
    x147 = x146.sum(3)
    del x146
    x148 = x147[:, :, :, None] * v
    del x147
    S_rows = scan.Rows(steps, H)
    x158_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        x148_c,
        x41_c,
        x129_c,
        x51_c,
        x144_c,
        v_c,
    ) in scan.each(
        steps,
        H,
        (
            x148,
            x41,
            x129,
            x51[:, :, :, None],
            x144.mT,
            v,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x158 = scan.addmm(x148_c + x129_c, x41_c, S)
        x150 = scan.addmm(scan.scale(S, x51_c, own), x144_c, v_c)
        x158_rows.put(x158)
        S = x150
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x158 = x158_rows.joined()
    if keep:
        S = S_rows.joined()
    del S_rows
    del x158_rows
    del x129, x144, x148, x41, x51
    return (x158,), (S_end,), (S, x128) if keep else None


def chunked_states(args, valid, h0, steps, keep):
    (r, w, k, v, w0, _) = args
    H = h0[0].shape[1]
    x9 = w + w0[:, :, None]
    x10 = torch.exp(x9)
    del x9
    x11 = x10 * -1
    del x10
    x14 = valid[:, :, :, None] * k
    x37 = x11 * tiles.LOG2E
    del x11
    x38 = torch.where(valid[:, :, :, None] > 0, x37, 0)
    del x37
    x46 = tiles.suffix_sum(x38, 2, exclusive=True)
    x47 = torch.exp2(x46)
    del x46
    x50 = x38.sum(2)
    x51 = torch.exp2(x50)
    del x50
    x54 = k * x47
    del x47
    f1 = tiles.decay_factors(x38, exclusive=True)
    x128 = tiles.decay_dot(r, x14, f1, strict=True)
    del f1, x14, x38
    x144 = valid[:, :, :, None] * x54
    del x54
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (x51_c, x144_c, v_c) in scan.each(steps, H, (x51[:, :, :, None], x144.mT, v)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x150 = scan.addmm(scan.scale(S, x51_c, own), x144_c, v_c)
        S = x150
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del x144, x51
    return (), (S_end,), (S, x128) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (r, w, k, v, w0, u) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, x128) = kept
    (do,) = douts
    C = valid.shape[2]
    H = h0[0].shape[1]
    x9 = w + w0[:, :, None]
    x10 = torch.exp(x9)
    del x9
    x11 = x10 * -1
    x14 = valid[:, :, :, None] * k
    x37 = x11 * tiles.LOG2E
    del x11
    x38 = torch.where(valid[:, :, :, None] > 0, x37, 0)
    del x37
    x39 = tiles.prefix_sum(x38, 2, exclusive=True)
    x40 = torch.exp2(x39)
    del x39
    x41 = r * x40
    x46 = tiles.suffix_sum(x38, 2, exclusive=True)
    x47 = torch.exp2(x46)
    del x46
    x50 = x38.sum(2)
    x51 = torch.exp2(x50)
    del x50
    x54 = k * x47
    x71 = tiles.LN2
    x79 = do @ v.mT
    f1 = tiles.decay_factors(x38, exclusive=True)
    x132, x83, x133 = tiles.decay_dot_grads(x79, r, x14, f1, strict=True)
    del f1, x14, x38, x79
    x86 = do @ S.mT
    x97 = tiles.LOG2E
    x100 = v * do
    x101 = x100.sum(3)
    del x100
    x103 = tiles.product(k, u[:, :, None], x101[:, :, :, None])
    x104 = tiles.product(r, u[:, :, None], x101[:, :, :, None])
    x114 = valid[:, :, :, None] * x83
    del x83
    x131 = x128.mT @ do
    x141 = tiles.addcmul_(x103 + x132, x40, x86)
    del x103, x132, x40
    x142 = r * k
    x144 = valid[:, :, :, None] * x54
    x146 = u[:, :, None] * x142
    x147 = x146.sum(3)
    del x146
    x153 = x41 * x86 * x71
    del x86
    x154 = tiles.suffix_sum(x153, 2, exclusive=True)
    del x153
    x155 = x147[:, :, :, None] * do
    del x147
    x156 = x101[:, :, :, None] * x142
    del x101, x142
    x157 = x156.sum(2)
    del x156
    x60_rows = scan.Rows(steps, H, True)
    x62_rows = scan.Rows(steps, H, True)
    x70_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        v_c,
        x54_c,
        S_c,
        x51_c,
        x41_c,
        do_c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            x54,
            S,
            x51[:, :, :, None],
            x41.mT,
            do,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x60 = torch.bmm(v_c, dS.mT, out=x60_rows.room(n))
        x62 = torch.bmm(x54_c, dS, out=x62_rows.room(n))
        x69 = S_c * dS
        x70 = x69.sum(2)
        x121 = scan.addmm(scan.scale(dS, x51_c, own), x41_c, do_c)
        x60_rows.put(x60)
        x62_rows.put(x62)
        x70_rows.put(x70)
        dS = x121
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x60 = x60_rows.joined()
    x62 = x62_rows.joined()
    x70 = x70_rows.joined()
    del x60_rows
    del x62_rows
    del x70_rows
    del x41, x54
    x64 = tiles.product(x47, x60, valid[:, :, :, None])
    del x47
    x73 = x51 * x70 * x71
    del x51, x70
    x74 = x73[:, :, None].expand(-1, -1, C, -1)
    del x73
    x125 = x64 + x104 + x114
    del x104, x114, x64
    x151 = x60 * x144 * x71
    del x144, x60
    x152 = tiles.prefix_sum(x151, 2, exclusive=True)
    del x151
    x159 = x74 + x152 + x154 + x133
    del x133, x152, x154, x74
    x160 = x10 * x159
    del x10, x159
    x161 = valid[:, :, :, None] * x160
    del x160
    x162 = x161 * -1 * x97
    x163 = x161.sum(2)
    del x161
    x164 = x163 * -1 * x97
    del x163
    x165 = tiles.addcmul_(x155 + x131, valid[:, :, :, None], x62)
    del x131, x155, x62
    return (x141, x162, x125, x165, x164, x157), (dS_end,)


def recurrent_forward(args, valid, h0, steps, keep):
    (r, w, k, v, w0, u) = args
    H = h0[0].shape[1]
    x8 = w + w0
    x9 = torch.exp(x8)
    del x8
    x10 = x9 * -1
    del x9
    x11 = torch.exp(x10)
    del x10
    x13 = k[:, :, :, None] * v[:, :, None]
    x58 = r * k
    x60 = u * x58
    del x58
    x61 = x60.sum(2)
    del x60
    x62 = x61[:, :, None] * v
    del x61
    S_rows = scan.Rows(steps, H)
    x63_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (r_c, x62_c, x11_c, x13_c) in scan.each(steps, H, (r, x62, x11[:, :, :, None], x13)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x15 = (r_c[..., None, :] @ S).squeeze(-2)
        x63 = x15 + x62_c
        x14 = scan.scale(S, x11_c, own) + x13_c
        x63_rows.put(x63)
        S = x14
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x63 = x63_rows.joined()
    if keep:
        S = S_rows.joined()
    del S_rows
    del x63_rows
    del x11, x13, x62
    return (x63,), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, w, k, v, w0, _) = args
    H = h0[0].shape[1]
    x8 = w + w0
    x9 = torch.exp(x8)
    del x8
    x10 = x9 * -1
    del x9
    x11 = torch.exp(x10)
    del x10
    x13 = k[:, :, :, None] * v[:, :, None]
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (x11_c, x13_c) in scan.each(steps, H, (x11[:, :, :, None], x13)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        x14 = scan.scale(S, x11_c, own) + x13_c
        S = x14
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del x11, x13
    return (), (S_end,), (S,) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (r, w, k, v, w0, u) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    H = h0[0].shape[1]
    x8 = w + w0
    x9 = torch.exp(x8)
    del x8
    x10 = x9 * -1
    x11 = torch.exp(x10)
    del x10
    x33 = v * do
    x34 = x33.sum(2)
    del x33
    x40 = (do[..., None, :] @ S.mT).squeeze(-2)
    x41 = r[:, :, :, None] * do[:, :, None]
    x58 = r * k
    x59 = x34[:, :, None] * u
    x60 = u * x58
    x61 = x60.sum(2)
    del x60
    x64 = x61[:, :, None] * do
    del x61
    x66 = r * x59
    x67 = x34[:, :, None] * x58
    del x34, x58
    x70 = torch.addcmul(x40, k, x59)
    del x40, x59
    x44_rows = scan.Rows(steps, H, True)
    x45_rows = scan.Rows(steps, H, True)
    x48_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        v_c,
        k_c,
        S_c,
        x41_c,
        x11_c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            k,
            S,
            x41,
            x11[:, :, :, None],
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x42 = v_c[:, None] * dS
        x43 = k_c[:, :, None] * dS
        x44 = x42.sum(2)
        x45 = x43.sum(1)
        x47 = S_c * dS
        x48 = x47.sum(2)
        x53 = scan.scale(dS, x11_c, own) + x41_c
        x44_rows.put(x44)
        x45_rows.put(x45)
        x48_rows.put(x48)
        dS = x53
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x44 = x44_rows.joined()
    x45 = x45_rows.joined()
    x48 = x48_rows.joined()
    del x44_rows
    del x45_rows
    del x48_rows
    del x41
    x51 = tiles.product(x9, x11, x48, (-1))
    del x11, x48, x9
    x68 = x64 + x45
    del x45, x64
    x69 = x66 + x44
    del x44, x66
    return (x70, x51, x69, x68, x51, x67), (dS_end,)

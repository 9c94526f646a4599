"""mamba2: generated from its spec by rnnc; do not edit.

S[t] = exp(-delta * exp(A_log)) * S[t-1] + delta * B @ u.T
o[t] = D * u + S[t].T @ C
  delta = softplus(dt + dt_bias)

In a chunk of C_ tokens with the incoming state S_in:
  D_ = exp(-delta * exp(A_log))
  w = delta * B,  v = u
  q = C
  G[i] = D_[1] * ... * D_[i],  G[0] = 1
  A[i,j] = q[i]^T (G[i]/G[j]) w[j],  j <= i
  r = A v + (q * G) S_in
  S_out = G[C_] * S_in + (w * G[C_]/G)^T v
"""

import torch

from rnnc.ops import scan, tiles

NAME = "mamba2"
SPEC_HASH = "01ab9cd6976c6615f7b246b1665bfe3b7f44774d46533ea351d227f9dba49ac9"
INPUTS = (("u", ("P",)), ("dt", ()), ("B", ("N",)), ("C", ("N",)))
PARAMS = (("A_log", ()), ("dt_bias", ()), ("D", ()))
STATES = (("S", ("N", "P")),)
OUTPUTS = (("o", ("P",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (u, dt, B, C_, A_log, dt_bias, D) = args
    H = h0[0].shape[1]
    exp_A_log = torch.exp(A_log)
    delta_1 = dt + dt_bias[:, :, None]
    delta = tiles.softplus(delta_1)
    del delta_1
    delta_scaled = (exp_A_log * -1)[:, :, None] * delta
    del exp_A_log
    CB = C_ @ B.mT
    log2_D_1 = delta_scaled * tiles.LOG2E
    del delta_scaled
    log2_D = torch.where(valid > 0, log2_D_1, 0)
    del log2_D_1
    log2_G = tiles.prefix_sum(log2_D, 2)
    G = torch.exp2(log2_G)
    del log2_G
    log2_G_ij = tiles.segment_sum(log2_D)
    G_ij = tiles.apply_(torch.exp2_, log2_G_ij)
    del log2_G_ij
    A = tiles.product_(G_ij, CB)
    del G_ij
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    G_after = torch.exp2(log2_G_after)
    del log2_G_after
    log2_G_C = log2_D.sum(2)
    del log2_D
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    valid_delta = valid * delta
    S_new_1 = G_after * valid_delta
    del G_after, valid_delta
    valid_delta_2 = valid * delta
    del delta
    B_scaled = tiles.scale_(B, S_new_1[:, :, :, None])
    del S_new_1
    A_scaled = tiles.scale_(A, valid_delta_2[:, :, None])
    del A, valid_delta_2
    C_scaled = tiles.scale_(C_, G[:, :, :, None])
    del G
    S_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        D_c,
        u_c,
        C_scaled_c,
        A_scaled_c,
        G_C_c,
        B_scaled_c,
    ) in scan.each(
        steps,
        H,
        (
            D[:, :, None, None],
            u,
            C_scaled,
            A_scaled,
            G_C[:, :, None, None],
            B_scaled.mT,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        o = scan.addmm(torch.mul(D_c, u_c, out=o_rows.room(n)), C_scaled_c, S)
        o = scan.addmm(o, A_scaled_c, u_c)
        S_new = scan.scale(S, G_C_c, own, S_rows if keep else None)
        S_new = scan.addmm(S_new, B_scaled_c, u_c)
        o_rows.put(o)
        S = S_new
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    o = o_rows.joined()
    if keep:
        S = S_rows.joined()
    del S_rows
    del o_rows
    del A_scaled, B_scaled, C_scaled, G_C
    return (o,), (S_end,), (S, CB) if keep else None


chunked_forward.by_step = (0,)


def chunked_states(args, valid, h0, steps, keep):
    (u, dt, B, C_, A_log, dt_bias, _) = args
    H = h0[0].shape[1]
    exp_A_log = torch.exp(A_log)
    delta_1 = dt + dt_bias[:, :, None]
    delta = tiles.softplus(delta_1)
    del delta_1
    delta_scaled = (exp_A_log * -1)[:, :, None] * delta
    del exp_A_log
    CB = C_ @ B.mT
    log2_D_1 = delta_scaled * tiles.LOG2E
    del delta_scaled
    log2_D = torch.where(valid > 0, log2_D_1, 0)
    del log2_D_1
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    G_after = torch.exp2(log2_G_after)
    del log2_G_after
    log2_G_C = log2_D.sum(2)
    del log2_D
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    valid_delta = valid * delta
    del delta
    S_new_1 = G_after * valid_delta
    del G_after, valid_delta
    B_scaled = S_new_1[:, :, :, None] * B
    del S_new_1
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (G_C_c, B_scaled_c, u_c) in scan.each(steps, H, (G_C[:, :, None, None], B_scaled.mT, u)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        S_new = scan.scale(S, G_C_c, own, S_rows if keep else None)
        S_new = scan.addmm(S_new, B_scaled_c, u_c)
        S = S_new
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del B_scaled, G_C
    return (), (S_end,), (S, CB) if keep else None


chunked_states.by_step = (0,)


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (u, dt, B, C_, A_log, dt_bias, D) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (S, CB) = kept
    (do,) = douts
    C = valid.shape[2]
    H = h0[0].shape[1]
    exp_A_log = torch.exp(A_log)
    delta_1 = dt + dt_bias[:, :, None]
    delta = tiles.softplus(delta_1)
    delta_scaled = (exp_A_log * -1)[:, :, None] * delta
    log2_D_1 = delta_scaled * tiles.LOG2E
    del delta_scaled
    log2_D = torch.where(valid > 0, log2_D_1, 0)
    del log2_D_1
    log2_G = tiles.prefix_sum(log2_D, 2)
    G = torch.exp2(log2_G)
    del log2_G
    log2_G_ij = tiles.segment_sum(log2_D)
    G_ij = tiles.apply_(torch.exp2_, log2_G_ij)
    del log2_G_ij
    CB_G_ij = CB * G_ij
    log2_G_after = tiles.suffix_sum(log2_D, 2, exclusive=True)
    G_after = torch.exp2(log2_G_after)
    del log2_G_after
    log2_G_C = log2_D.sum(2)
    del log2_D
    G_C = torch.exp2(log2_G_C)
    del log2_G_C
    ln2 = tiles.LN2
    do_u = do @ u.mT
    dCS = G[:, :, :, None] * do
    log2e = tiles.LOG2E
    u_do = u * do
    u_do_sum = u_do.sum(2)
    del u_do
    dD = u_do_sum.sum(2)
    del u_do_sum
    G_ij_do_u = tiles.product_(G_ij, do_u)
    del G_ij
    ddt_1 = torch.sigmoid(delta_1)
    del delta_1
    CB_G_ij_do_u = tiles.product_(do_u, CB_G_ij)
    del do_u
    valid_delta = valid * delta
    dlog2_G_after_1 = G_after * valid_delta
    valid_delta_2 = valid * delta
    del delta
    exp_A_log_scaled = exp_A_log * log2e
    del exp_A_log
    CB_G_ij_do_u_sum = CB_G_ij_do_u.sum(2)
    ddt_2 = tiles.product(valid, CB_G_ij_do_u_sum, ddt_1)
    del CB_G_ij_do_u_sum
    dCB = valid_delta_2[:, :, None] * G_ij_do_u
    dlog2_G_ij = tiles.scale_(CB_G_ij_do_u, valid_delta_2[:, :, None], ln2)
    del CB_G_ij_do_u, valid_delta_2
    dA_log_1 = tiles.segment_sum_grad(dlog2_G_ij)
    del dlog2_G_ij
    ddt_bias_1 = ddt_2.sum(2)
    CB_G_ij_scaled = tiles.scale_(CB_G_ij, valid_delta[:, :, None])
    del CB_G_ij
    G_ij_do_u_scaled = tiles.scale_(G_ij_do_u, valid_delta[:, :, None])
    del G_ij_do_u
    dB_scaled_rows = scan.Rows(steps, H, True)
    B_dS_rows = scan.Rows(steps, H, True)
    S_dS_sum_rows = scan.Rows(steps, H, True)
    do_S_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    own = False
    for n, (
        u_c,
        B_c,
        S_c,
        do_c,
        S_c_2,
        G_C_c,
        C__c,
        dCS_c,
    ) in scan.each(
        steps,
        H,
        (
            u,
            B,
            S,
            do,
            S.mT,
            G_C[:, :, None, None],
            C_.mT,
            dCS,
        ),
        True,
    ):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        dB_scaled = torch.bmm(u_c, dS.mT, out=dB_scaled_rows.room(n))
        B_dS = torch.bmm(B_c, dS, out=B_dS_rows.room(n))
        S_dS = S_c * dS
        S_dS_sum = torch.sum(S_dS, 1, out=S_dS_sum_rows.room(n))
        do_S = torch.bmm(do_c, S_c_2, out=do_S_rows.room(n))
        dS_before = scan.addmm(scan.scale(dS, G_C_c, own), C__c, dCS_c)
        dB_scaled_rows.put(dB_scaled)
        B_dS_rows.put(B_dS)
        S_dS_sum_rows.put(S_dS_sum)
        do_S_rows.put(do_S)
        dS = dS_before
        own = True
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    dB_scaled = dB_scaled_rows.joined()
    B_dS = B_dS_rows.joined()
    S_dS_sum = S_dS_sum_rows.joined()
    do_S = do_S_rows.joined()
    del dB_scaled_rows
    del B_dS_rows
    del S_dS_sum_rows
    del do_S_rows
    del dCS
    dG_C = S_dS_sum.sum(2)
    del S_dS_sum
    dlog2_G_C = G_C * dG_C * ln2
    del G_C, dG_C
    dlog2_G_C_2 = dlog2_G_C[:, :, None].expand(-1, -1, C)
    del dlog2_G_C
    B_dB_scaled = B * dB_scaled
    B_dB_scaled_sum = B_dB_scaled.sum(3)
    del B_dB_scaled
    ddt_3 = tiles.product(valid, G_after, B_dB_scaled_sum)
    del G_after
    dlog2_G_after = B_dB_scaled_sum * dlog2_G_after_1 * ln2
    del B_dB_scaled_sum
    dA_log_2 = tiles.prefix_sum(dlog2_G_after, 2, exclusive=True)
    del dlog2_G_after
    dC = tiles.addmm_(G[:, :, :, None] * do_S, dCB, B)
    del dCB
    C_do_S = C_ * do_S
    del do_S
    C_do_S_sum = C_do_S.sum(3)
    del C_do_S
    G_C_do_S_sum = G * C_do_S_sum * ln2
    del C_do_S_sum, G
    dA_log_3 = tiles.suffix_sum(G_C_do_S_sum, 2)
    del G_C_do_S_sum
    dA_log_4 = dlog2_G_C_2 + dA_log_2 + dA_log_3 + dA_log_1
    del dA_log_1, dA_log_2, dA_log_3, dlog2_G_C_2
    ddt_4 = tiles.product(valid, dA_log_4, exp_A_log_scaled[:, :, None])
    ddt_5 = ddt_3 - ddt_4
    del ddt_3, ddt_4
    ddt_6 = ddt_1 * ddt_5
    del ddt_1, ddt_5
    ddt = ddt_2 + ddt_6
    del ddt_2
    dA_log_5 = dA_log_4 * valid_delta
    del dA_log_4, valid_delta
    dA_log_6 = dA_log_5.sum(2)
    del dA_log_5
    dA_log = dA_log_6 * exp_A_log_scaled * -1
    del dA_log_6, exp_A_log_scaled
    ddt_bias_2 = ddt_6.sum(2)
    del ddt_6
    ddt_bias = ddt_bias_1 + ddt_bias_2
    del ddt_bias_1, ddt_bias_2
    dB = dlog2_G_after_1[:, :, :, None] * dB_scaled
    dB = tiles.addmm_(dB, G_ij_do_u_scaled.mT, C_)
    del G_ij_do_u_scaled, dB_scaled
    du = tiles.addcmul_(dlog2_G_after_1[:, :, :, None] * B_dS, D[:, :, None, None], do)
    du = tiles.addmm_(du, CB_G_ij_scaled.mT, do)
    del B_dS, CB_G_ij_scaled, dlog2_G_after_1
    return (du, ddt, dB, dC, dA_log, ddt_bias, dD), (dS_end,)


def recurrent_forward(args, valid, h0, steps, keep):
    (u, dt, B, C_, A_log, dt_bias, D) = args
    H = h0[0].shape[1]
    exp_A_log = torch.exp(A_log)
    delta_1 = dt + dt_bias
    delta = tiles.softplus(delta_1)
    del delta_1
    S_new_1 = (delta[:, :, None] * u)[:, :, None] * B[:, :, :, None]
    u_scaled = D[:, :, None] * u
    exp_A_log_delta = exp_A_log * delta
    del delta, exp_A_log
    D_1 = exp_A_log_delta * -1
    del exp_A_log_delta
    D_2 = torch.exp(D_1)
    del D_1
    S_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        D_2_c,
        S_new_1_c,
        C__c,
        u_scaled_c,
    ) in scan.each(
        steps,
        H,
        (
            D_2[:, :, None, None],
            S_new_1,
            C_,
            u_scaled,
        ),
    ):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        S_new = scan.scale(S, D_2_c, own, S_rows if keep else None)
        S_new = S_new + S_new_1_c
        C_S_new = (C__c[..., None, :] @ S_new).squeeze(-2)
        o = C_S_new + u_scaled_c
        o_rows.put(o)
        S = S_new
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    o = o_rows.joined()
    if keep:
        S = S_rows.joined()
    del S_rows
    del o_rows
    del D_2, S_new_1, u_scaled
    return (o,), (S_end,), (S,) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (u, dt, B, _, A_log, dt_bias, _) = args
    H = h0[0].shape[1]
    exp_A_log = torch.exp(A_log)
    delta_1 = dt + dt_bias
    delta = tiles.softplus(delta_1)
    del delta_1
    S_new_1 = (delta[:, :, None] * u)[:, :, None] * B[:, :, :, None]
    exp_A_log_delta = exp_A_log * delta
    del delta, exp_A_log
    D_1 = exp_A_log_delta * -1
    del exp_A_log_delta
    D_2 = torch.exp(D_1)
    del D_1
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (D_2_c, S_new_1_c) in scan.each(steps, H, (D_2[:, :, None, None], S_new_1)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        S_new = scan.scale(S, D_2_c, own, S_rows if keep else None)
        S_new = S_new + S_new_1_c
        S = S_new
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del D_2, S_new_1
    return (), (S_end,), (S,) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (u, dt, B, C_, A_log, dt_bias, D) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (S,) = kept
    (do,) = douts
    H = h0[0].shape[1]
    exp_A_log = torch.exp(A_log)
    delta_1 = dt + dt_bias
    delta = tiles.softplus(delta_1)
    dC_1 = (delta[:, :, None] * u)[:, :, None] * B[:, :, :, None]
    u_do = u * do
    dD = u_do.sum(2)
    del u_do
    dS_before_1 = C_[:, :, :, None] * do[:, :, None]
    ddt_bias_1 = torch.sigmoid(delta_1)
    del delta_1
    exp_A_log_delta = exp_A_log * delta
    D_1 = exp_A_log_delta * -1
    D_2 = torch.exp(D_1)
    del D_1
    dC_2 = torch.addcmul(dC_1, D_2[:, :, None, None], S)
    del dC_1
    dC = (do[..., None, :] @ dC_2.mT).squeeze(-2)
    del dC_2
    dS_before_2_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    for n, (dS_before_1_c, D_2_c) in scan.each(steps, H, (dS_before_1, D_2), True):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        dS_before_2 = dS + dS_before_1_c
        dS_before = D_2_c[:, None, None] * dS_before_2
        dS_before_2_rows.put(dS_before_2)
        dS = dS_before
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    dS_before_2 = dS_before_2_rows.joined()
    del dS_before_2_rows
    del dS_before_1
    du_1 = B[:, :, :, None] * dS_before_2
    du_2 = du_1.sum(2)
    del du_1
    dB_1 = u[:, :, None] * dS_before_2
    dB_2 = dB_1.sum(3)
    del dB_1
    dB = delta[:, :, None] * dB_2
    del dB_2
    ddelta_1 = u * du_2
    ddelta_2 = ddelta_1.sum(2)
    del ddelta_1
    dA_log_1 = S * dS_before_2
    del dS_before_2
    dA_log_2 = dA_log_1.sum(2)
    del dA_log_1
    dA_log_3 = dA_log_2.sum(2)
    del dA_log_2
    du = tiles.addcmul_(D[:, :, None] * do, delta[:, :, None], du_2)
    del delta, du_2
    dA_log_4 = D_2 * dA_log_3
    del D_2, dA_log_3
    ddelta = torch.addcmul(ddelta_2, exp_A_log, dA_log_4, value=-1)
    del ddelta_2, exp_A_log
    ddt_bias = ddelta * ddt_bias_1
    del ddelta, ddt_bias_1
    dA_log = dA_log_4 * exp_A_log_delta * -1
    del dA_log_4, exp_A_log_delta
    return (du, ddt_bias, dB, dC, dA_log, ddt_bias, dD), (dS_end,)

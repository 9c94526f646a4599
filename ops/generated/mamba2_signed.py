"""mamba2_signed: generated from its spec by rnnc; do not edit.

S[t] = alpha * S[t-1] + delta * B @ u.T
o[t] = D * u + S[t].T @ C
  delta = softplus(dt + dt_bias)
  alpha = 2 * exp(-exp(A_log) * delta) - 1

In a chunk of C_ tokens with the incoming state S_in:
  D_ = alpha
  w = delta * B,  v = u
  q = C
  G[i] = D_[1] * ... * D_[i],  G[0] = 1
  A[i,j] = q[i]^T (G[i]/G[j]) w[j],  j <= i
  r = A v + (q * G) S_in
  S_out = G[C_] * S_in + (w * G[C_]/G)^T v
"""

import torch

from rnnc.ops import scan, tiles

NAME = "mamba2_signed"
SPEC_HASH = "b75046ec372bc5beac9d4497514a1c510fb59caa0de6cd1bfca24e3763a1de68"
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
    exp_delta_scaled = torch.exp(delta_scaled)
    del delta_scaled
    alpha = 2 * exp_delta_scaled + -1
    del exp_delta_scaled
    D_ = torch.where(valid > 0, alpha, 1)
    del alpha
    G = tiles.running_product(D_, 2, "prefix")
    CB = C_ @ B.mT
    G_ij = tiles.path(D_)
    A = CB * G_ij
    del G_ij
    G_after = tiles.running_product(D_, 2, "suffix", exclusive=True)
    G_from = tiles.running_product(D_, 2, "suffix")
    del D_
    G_C = G_from[:, :, 0]
    del G_from
    valid_delta = valid * delta
    valid_delta_2 = valid * delta
    del delta
    S_new_1 = G_after * valid_delta
    del G_after, valid_delta
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
        C_scaled_c,
        D_c,
        u_c,
        A_scaled_c,
        G_C_c,
        B_scaled_c,
    ) in scan.each(
        steps,
        H,
        (
            C_scaled,
            D[:, :, None, None],
            u,
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
    exp_delta_scaled = torch.exp(delta_scaled)
    del delta_scaled
    alpha = 2 * exp_delta_scaled + -1
    del exp_delta_scaled
    D_ = torch.where(valid > 0, alpha, 1)
    del alpha
    CB = C_ @ B.mT
    G_after = tiles.running_product(D_, 2, "suffix", exclusive=True)
    G_from = tiles.running_product(D_, 2, "suffix")
    del D_
    G_C = G_from[:, :, 0]
    del G_from
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
    exp_delta_scaled = torch.exp(delta_scaled)
    del delta_scaled
    alpha = 2 * exp_delta_scaled + -1
    D_ = torch.where(valid > 0, alpha, 1)
    del alpha
    G = tiles.running_product(D_, 2, "prefix")
    G_ij = tiles.path(D_)
    CB_G_ij = CB * G_ij
    G_after = tiles.running_product(D_, 2, "suffix", exclusive=True)
    G_from = tiles.running_product(D_, 2, "suffix")
    G_C = G_from[:, :, 0]
    u_do = u * do
    u_do_sum = u_do.sum(2)
    del u_do
    dD = u_do_sum.sum(2)
    del u_do_sum
    do_u = do @ u.mT
    G_ij_do_u = G_ij * do_u
    del G_ij
    ddt_1 = torch.sigmoid(delta_1)
    del delta_1
    dCS = G[:, :, :, None] * do
    valid_delta = valid * delta
    valid_delta_2 = valid * delta
    del delta
    du_1 = G_after * valid_delta
    CB_G_ij_do_u = CB_G_ij * do_u
    CB_G_ij_do_u_sum = CB_G_ij_do_u.sum(2)
    del CB_G_ij_do_u
    ddt_2 = tiles.product(valid, CB_G_ij_do_u_sum, ddt_1)
    del CB_G_ij_do_u_sum
    dCB = valid_delta_2[:, :, None] * G_ij_do_u
    dG_ij = tiles.product_(do_u, CB, valid_delta_2[:, :, None])
    del do_u, valid_delta_2
    dA_log_1 = tiles.path_grad(D_, dG_ij)
    del dG_ij
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
    del G_C, dCS
    dG_C = S_dS_sum.sum(2)
    del S_dS_sum
    dG_from = tiles.at_first(dG_C, C)
    del dG_C
    dA_log_2 = tiles.running_product_grad(D_, dG_from, 2, "suffix")
    del G_from, dG_from
    B_dB_scaled = B * dB_scaled
    B_dB_scaled_sum = B_dB_scaled.sum(3)
    del B_dB_scaled
    ddt_3 = tiles.product(valid, G_after, B_dB_scaled_sum)
    dG_after = B_dB_scaled_sum * valid_delta
    del B_dB_scaled_sum
    dA_log_3 = tiles.running_product_grad(D_, dG_after, 2, "suffix", exclusive=True)
    del G_after, dG_after
    dC = tiles.addmm_(G[:, :, :, None] * do_S, dCB, B)
    del dCB
    C_do_S = C_ * do_S
    del do_S
    C_do_S_sum = C_do_S.sum(3)
    del C_do_S
    dA_log_4 = tiles.running_product_grad(D_, C_do_S_sum, 2, "prefix")
    del C_do_S_sum, D_, G
    dA_log_5 = dA_log_2 + dA_log_3 + dA_log_4 + dA_log_1
    del dA_log_1, dA_log_2, dA_log_3, dA_log_4
    dA_log_6 = exp_delta_scaled * dA_log_5
    del dA_log_5, exp_delta_scaled
    ddt_4 = tiles.product(valid, dA_log_6, exp_A_log[:, :, None])
    ddt_5 = torch.add(ddt_3, ddt_4, alpha=-2)
    del ddt_3, ddt_4
    ddt_6 = ddt_1 * ddt_5
    del ddt_1, ddt_5
    ddt = ddt_2 + ddt_6
    del ddt_2
    dA_log_7 = valid_delta * dA_log_6
    del dA_log_6, valid_delta
    dA_log_8 = dA_log_7.sum(2)
    del dA_log_7
    dA_log = exp_A_log * dA_log_8 * -2
    del dA_log_8, exp_A_log
    ddt_bias_2 = ddt_6.sum(2)
    del ddt_6
    ddt_bias = ddt_bias_1 + ddt_bias_2
    del ddt_bias_1, ddt_bias_2
    dB = tiles.addmm_(du_1[:, :, :, None] * dB_scaled, G_ij_do_u_scaled.mT, C_)
    del G_ij_do_u_scaled, dB_scaled
    du = tiles.addcmul_(du_1[:, :, :, None] * B_dS, D[:, :, None, None], do)
    du = tiles.addmm_(du, CB_G_ij_scaled.mT, do)
    del B_dS, CB_G_ij_scaled, du_1
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
    alpha_1 = exp_A_log_delta * -1
    del exp_A_log_delta
    alpha_2 = torch.exp(alpha_1)
    del alpha_1
    alpha = 2 * alpha_2 + -1
    del alpha_2
    S_rows = scan.Rows(steps, H)
    o_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (
        alpha_c,
        S_new_1_c,
        C__c,
        u_scaled_c,
    ) in scan.each(
        steps,
        H,
        (
            alpha[:, :, None, None],
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
        S_new = scan.scale(S, alpha_c, own, S_rows if keep else None)
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
    del S_new_1, alpha, u_scaled
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
    alpha_1 = exp_A_log_delta * -1
    del exp_A_log_delta
    alpha_2 = torch.exp(alpha_1)
    del alpha_1
    alpha = 2 * alpha_2 + -1
    del alpha_2
    S_rows = scan.Rows(steps, H)
    (S,) = scan.flat(h0)
    S_done = []
    own = False
    for n, (alpha_c, S_new_1_c) in scan.each(steps, H, (alpha[:, :, None, None], S_new_1)):
        if S.shape[0] > n:
            S_done.append(S[n:])
            S = S[:n]
        if keep:
            S_rows.put(S)
        S_new = scan.scale(S, alpha_c, own, S_rows if keep else None)
        S_new = S_new + S_new_1_c
        S = S_new
        own = True
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    if keep:
        S = S_rows.joined()
    del S_rows
    del S_new_1, alpha
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
    alpha_1 = exp_A_log_delta * -1
    alpha_2 = torch.exp(alpha_1)
    del alpha_1
    alpha = 2 * alpha_2 + -1
    dC_2 = torch.addcmul(dC_1, alpha[:, :, None, None], S)
    del dC_1
    dC = (do[..., None, :] @ dC_2.mT).squeeze(-2)
    del dC_2
    dS_before_2_rows = scan.Rows(steps, H, True)
    (dS_end,) = scan.flat(dht)
    dS = dS_end[:0]
    for n, (dS_before_1_c, alpha_c) in scan.each(steps, H, (dS_before_1, alpha), True):
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        dS_before_2 = dS + dS_before_1_c
        dS_before = alpha_c[:, None, None] * dS_before_2
        dS_before_2_rows.put(dS_before_2)
        dS = dS_before
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    dS_before_2 = dS_before_2_rows.joined()
    del dS_before_2_rows
    del alpha, dS_before_1
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
    dA_log_4 = alpha_2 * dA_log_3
    del alpha_2, dA_log_3
    ddelta = torch.addcmul(ddelta_2, exp_A_log, dA_log_4, value=-2)
    del ddelta_2, exp_A_log
    ddt_bias = ddelta * ddt_bias_1
    del ddelta, ddt_bias_1
    dA_log = dA_log_4 * exp_A_log_delta * -2
    del dA_log_4, exp_A_log_delta
    return (du, ddt_bias, dB, dC, dA_log, ddt_bias, dD), (dS_end,)

"""titans_linear: generated from its spec by rnnc; do not edit.

M[t] = eta * M[t-1] + theta * u @ (v - S[t-1].T @ u).T
S[t] = eta * M[t-1] + (1 - alpha) * S[t-1] + theta * u @ (v - S[t-1].T @ u).T
o[t] = S[t].T @ unit(q)
  alpha = sigmoid(a)
  eta = sigmoid(b)
  theta = sigmoid(c)
  u = unit(k)

In a chunk of C tokens with the incoming states M_in, S_in:
  D = [[eta, 0], [eta, 1 - alpha]], of (M, S)
  w_M = theta * u,  w_S = theta * u,  f_S = -u
  q_ = unit(q)
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

NAME = "titans_linear"
SPEC_HASH = "de8d595226046b6c1780000f7a617ba14f6ab6d42d26269fb04591382e161d99"
INPUTS = (("q", ("K",)), ("k", ("K",)), ("v", ("V",)), ("a", ()), ("b", ()), ("c", ()))
PARAMS = ()
STATES = (("M", ("K", "V")), ("S", ("K", "V")))
OUTPUTS = (("o", ("V",)),)


def chunked_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, c) = args
    H = h0[0].shape[1]
    x9 = torch.sigmoid(b_)
    x11 = valid * x9
    x18 = torch.sigmoid(c)
    x19 = k * k
    x20 = x19.sum(3)
    del x19
    x22 = x20 + 1e-06
    del x20
    x23 = torch.rsqrt(x22)
    del x22
    x68 = k @ k.mT
    x86 = q * q
    x87 = x86.sum(3)
    del x86
    x88 = x87 + 1e-06
    del x87
    x89 = torch.rsqrt(x88)
    del x88
    x105 = q @ k.mT
    x140 = F.logsigmoid(b_)
    x141 = x140 * tiles.LOG2E
    del x140
    x142 = torch.where(valid > 0, x141, 0)
    del x141
    x143 = a_ * -1
    x144 = F.logsigmoid(x143)
    del x143
    x145 = x144 * tiles.LOG2E
    del x144
    x146 = torch.where(valid > 0, x145, 0)
    del x145
    x147 = tiles.prefix_sum(x142, 2, exclusive=True)
    x148 = torch.exp2(x147)
    del x147
    x149 = tiles.segment_sum(x146, exclusive=True, strict=True)
    x150 = torch.exp2(x149)
    del x149
    x155 = tiles.prefix_sum(x146, 2, exclusive=True)
    x156 = torch.exp2(x155)
    del x155
    x157 = tiles.segment_sum(x142, exclusive=True, strict=True)
    x158 = torch.exp2(x157)
    del x157
    x176 = tiles.segment_sum(x146)
    x177 = torch.exp2(x176)
    del x176
    x180 = tiles.prefix_sum(x146, 2)
    x181 = torch.exp2(x180)
    del x180
    x196 = x142.sum(2)
    x197 = torch.exp2(x196)
    del x196
    x199 = tiles.suffix_sum(x142, 2, exclusive=True)
    del x142
    x200 = torch.exp2(x199)
    del x199
    x204 = tiles.suffix_sum(x146, 2, exclusive=True)
    x205 = torch.exp2(x204)
    del x204
    x211 = x146.sum(2)
    del x146
    x212 = torch.exp2(x211)
    del x211
    x950 = x89[:, :, :, None] * x177
    x994 = x23[:, :, :, None] * x150
    x1085 = valid * x18
    x1086 = x23 * x1085
    del x1085
    x1087 = valid * x18
    del x18
    x1089 = x23 * x1087
    del x1087
    x1090 = x11 * x148
    del x148
    x1091 = valid * x9
    del x9
    x1092 = x23 * x156
    del x156
    x1093 = x89 * x181
    del x181
    x1094 = x200 * x1089
    del x200
    x1098 = x11 * x205
    del x11
    x1104 = x205 * x1090
    x1120 = x1094[:, :, :, None] * k
    del x1094
    x1121 = x1104.sum(2)
    del x1104
    x1123 = x1098[:, :, :, None] * x158
    del x1098
    x1124 = x1123.sum(2)
    del x1123
    x1128 = tiles.addcmul_(x1124 * x1089, x205, x1089)
    del x1089, x1124, x205
    x1129 = x1128[:, :, :, None] * k
    del x1128
    x1142 = (x150 @ x1090[..., None]).squeeze(-1)
    x1143 = x1091[:, :, None] * x150
    del x150
    x1145 = x1143 @ x158
    del x1143
    x1146 = tiles.product(x1145, x23[:, :, :, None], x1086[:, :, None])
    del x1145
    x1148 = tiles.addcmul_(-x1146, x1086[:, :, None], x994, -1)
    del x1146, x994
    x1149 = x68 * x1148
    del x1148, x68
    x1150 = x23 * x1142
    del x1142, x23
    x1155 = (x177 @ x1090[..., None]).squeeze(-1)
    del x1090
    x1156 = x89 * x1155
    del x1155
    x1158 = x1091[:, :, None] * x177
    del x1091, x177
    x1160 = x1158 @ x158
    del x1158, x158
    x1161 = tiles.product(x1160, x89[:, :, :, None], x1086[:, :, None])
    del x1160, x89
    x1163 = torch.addcmul(x1161, x1086[:, :, None], x950)
    del x1086, x1161, x950
    x1164 = x105 * x1163
    del x105, x1163
    x1165 = tiles.inverse(x1149)
    del x1149
    x1351 = x1093[:, :, :, None] * q
    del x1093
    x1353 = x1150[:, :, :, None] * k
    del x1150
    x1355 = x1092[:, :, :, None] * k
    del x1092
    x1359 = x1156[:, :, :, None] * q
    del x1156
    M_rows = scan.Rows(steps, H)
    S_rows = scan.Rows(steps, H)
    x1364_rows = scan.Rows(steps, H)
    (M, S) = scan.flat(h0)
    M_done = []
    S_done = []
    own = False
    for n, (
        v_c,
        x1353_c,
        x1355_c,
        x1165_c,
        x1351_c,
        x1359_c,
        x1164_c,
        x197_c,
        x1120_c,
        x1121_c,
        x212_c,
        x1129_c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            x1353,
            x1355,
            x1165,
            x1351,
            x1359,
            x1164,
            x197[:, :, None, None],
            x1120.mT,
            x1121[:, :, None, None],
            x212[:, :, None, None],
            x1129.mT,
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
        x1357 = scan.addmm(torch.baddbmm(v_c, x1353_c, M, alpha=-1), x1355_c, S, -1)
        x1361 = torch.bmm(x1165_c, x1357)
        x1364 = torch.bmm(x1351_c, S, out=x1364_rows.room(n))
        x1364 = scan.addmm(scan.addmm(x1364, x1359_c, M), x1164_c, x1361)
        x1366 = scan.addmm(x197_c * M, x1120_c, x1361)
        x1368 = tiles.addcmul_(scan.scale(S, x212_c, own), x1121_c, M)
        x1368 = scan.addmm(x1368, x1129_c, x1361)
        x1364_rows.put(x1364)
        M, S = x1366, x1368
        own = True
    M_end = torch.cat([M, *reversed(M_done)]) if M_done else M
    M_end = M_end.unflatten(0, (-1, H))
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x1364 = x1364_rows.joined()
    if keep:
        M = M_rows.joined()
        S = S_rows.joined()
    del M_rows
    del S_rows
    del x1364_rows
    del x1120, x1121, x1129, x1164, x1351, x1353, x1355, x1359, x197, x212
    return (x1364,), (M_end, S_end), (M, S, x1165) if keep else None


def chunked_states(args, valid, h0, steps, keep):
    (_, k, v, a_, b_, c) = args
    H = h0[0].shape[1]
    x9 = torch.sigmoid(b_)
    x11 = valid * x9
    x18 = torch.sigmoid(c)
    x19 = k * k
    x20 = x19.sum(3)
    del x19
    x22 = x20 + 1e-06
    del x20
    x23 = torch.rsqrt(x22)
    del x22
    x68 = k @ k.mT
    x140 = F.logsigmoid(b_)
    x141 = x140 * tiles.LOG2E
    del x140
    x142 = torch.where(valid > 0, x141, 0)
    del x141
    x143 = a_ * -1
    x144 = F.logsigmoid(x143)
    del x143
    x145 = x144 * tiles.LOG2E
    del x144
    x146 = torch.where(valid > 0, x145, 0)
    del x145
    x147 = tiles.prefix_sum(x142, 2, exclusive=True)
    x148 = torch.exp2(x147)
    del x147
    x149 = tiles.segment_sum(x146, exclusive=True, strict=True)
    x150 = torch.exp2(x149)
    del x149
    x155 = tiles.prefix_sum(x146, 2, exclusive=True)
    x156 = torch.exp2(x155)
    del x155
    x157 = tiles.segment_sum(x142, exclusive=True, strict=True)
    x158 = torch.exp2(x157)
    del x157
    x196 = x142.sum(2)
    x197 = torch.exp2(x196)
    del x196
    x199 = tiles.suffix_sum(x142, 2, exclusive=True)
    del x142
    x200 = torch.exp2(x199)
    del x199
    x204 = tiles.suffix_sum(x146, 2, exclusive=True)
    x205 = torch.exp2(x204)
    del x204
    x211 = x146.sum(2)
    del x146
    x212 = torch.exp2(x211)
    del x211
    x994 = x23[:, :, :, None] * x150
    x1085 = valid * x18
    x1086 = x23 * x1085
    del x1085
    x1087 = valid * x18
    del x18
    x1089 = x23 * x1087
    del x1087
    x1090 = x11 * x148
    del x148
    x1091 = valid * x9
    del x9
    x1092 = x23 * x156
    del x156
    x1094 = x200 * x1089
    del x200
    x1098 = x11 * x205
    del x11
    x1104 = x205 * x1090
    x1120 = x1094[:, :, :, None] * k
    del x1094
    x1121 = x1104.sum(2)
    del x1104
    x1123 = x1098[:, :, :, None] * x158
    del x1098
    x1124 = x1123.sum(2)
    del x1123
    x1128 = tiles.addcmul_(x1124 * x1089, x205, x1089)
    del x1089, x1124, x205
    x1129 = x1128[:, :, :, None] * k
    del x1128
    x1142 = (x150 @ x1090[..., None]).squeeze(-1)
    del x1090
    x1143 = x1091[:, :, None] * x150
    del x1091, x150
    x1145 = x1143 @ x158
    del x1143, x158
    x1146 = tiles.product(x1145, x23[:, :, :, None], x1086[:, :, None])
    del x1145
    x1148 = tiles.addcmul_(-x1146, x1086[:, :, None], x994, -1)
    del x1086, x1146, x994
    x1149 = x68 * x1148
    del x1148, x68
    x1150 = x23 * x1142
    del x1142, x23
    x1165 = tiles.inverse(x1149)
    del x1149
    x1353 = x1150[:, :, :, None] * k
    del x1150
    x1355 = x1092[:, :, :, None] * k
    del x1092
    M_rows = scan.Rows(steps, H)
    S_rows = scan.Rows(steps, H)
    (M, S) = scan.flat(h0)
    M_done = []
    S_done = []
    own = False
    for n, (
        v_c,
        x1353_c,
        x1355_c,
        x1165_c,
        x197_c,
        x1120_c,
        x1121_c,
        x212_c,
        x1129_c,
    ) in scan.each(
        steps,
        H,
        (
            v,
            x1353,
            x1355,
            x1165,
            x197[:, :, None, None],
            x1120.mT,
            x1121[:, :, None, None],
            x212[:, :, None, None],
            x1129.mT,
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
        x1357 = scan.addmm(torch.baddbmm(v_c, x1353_c, M, alpha=-1), x1355_c, S, -1)
        x1361 = torch.bmm(x1165_c, x1357)
        x1366 = scan.addmm(x197_c * M, x1120_c, x1361)
        x1368 = tiles.addcmul_(scan.scale(S, x212_c, own), x1121_c, M)
        x1368 = scan.addmm(x1368, x1129_c, x1361)
        M, S = x1366, x1368
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
    del x1120, x1121, x1129, x1353, x1355, x197, x212
    return (), (M_end, S_end), (M, S, x1165) if keep else None


def chunked_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, a_, b_, c) = args
    if kept is None:
        kept = chunked_states(args, valid, h0, steps, True)[2]
    (M, S, x1165) = kept
    (do,) = douts
    C = valid.shape[2]
    H = h0[0].shape[1]
    x9 = torch.sigmoid(b_)
    x11 = valid * x9
    x14 = torch.sigmoid(a_)
    x18 = torch.sigmoid(c)
    x19 = k * k
    x20 = x19.sum(3)
    del x19
    x22 = x20 + 1e-06
    del x20
    x23 = torch.rsqrt(x22)
    del x22
    x39 = k @ M
    x44 = k @ S
    x68 = k @ k.mT
    x86 = q * q
    x87 = x86.sum(3)
    del x86
    x88 = x87 + 1e-06
    del x87
    x89 = torch.rsqrt(x88)
    del x88
    x105 = q @ k.mT
    x140 = F.logsigmoid(b_)
    x141 = x140 * tiles.LOG2E
    del x140
    x142 = torch.where(valid > 0, x141, 0)
    del x141
    x143 = a_ * -1
    x144 = F.logsigmoid(x143)
    del x143
    x145 = x144 * tiles.LOG2E
    del x144
    x146 = torch.where(valid > 0, x145, 0)
    del x145
    x147 = tiles.prefix_sum(x142, 2, exclusive=True)
    x148 = torch.exp2(x147)
    del x147
    x149 = tiles.segment_sum(x146, exclusive=True, strict=True)
    x150 = torch.exp2(x149)
    del x149
    x155 = tiles.prefix_sum(x146, 2, exclusive=True)
    x156 = torch.exp2(x155)
    del x155
    x157 = tiles.segment_sum(x142, exclusive=True, strict=True)
    x158 = torch.exp2(x157)
    del x157
    x176 = tiles.segment_sum(x146)
    x177 = torch.exp2(x176)
    del x176
    x180 = tiles.prefix_sum(x146, 2)
    x181 = torch.exp2(x180)
    del x180
    x196 = x142.sum(2)
    x197 = torch.exp2(x196)
    del x196
    x199 = tiles.suffix_sum(x142, 2, exclusive=True)
    del x142
    x200 = torch.exp2(x199)
    del x199
    x204 = tiles.suffix_sum(x146, 2, exclusive=True)
    x205 = torch.exp2(x204)
    del x204
    x211 = x146.sum(2)
    del x146
    x212 = torch.exp2(x211)
    del x211
    x259 = tiles.LN2
    x466 = x158 * x259
    x499 = tiles.LOG2E
    x506 = b_ * -1
    x507 = torch.sigmoid(x506)
    del x506
    x514 = do @ S.mT
    x519 = do @ M.mT
    x571 = -x18 + 1
    x597 = -x9 + 1
    x643 = x18 * x571
    del x571
    x646 = x9 * x597
    x950 = x89[:, :, :, None] * x177
    x994 = x23[:, :, :, None] * x150
    x1085 = valid * x18
    x1086 = x23 * x1085
    del x1085
    x1087 = valid * x18
    del x18
    x1088 = valid * x23
    x1089 = x23 * x1087
    x1090 = x11 * x148
    x1091 = valid * x9
    del x9
    x1092 = x23 * x156
    x1093 = x89 * x181
    x1094 = x200 * x1089
    x1097 = valid * x205
    x1098 = x11 * x205
    x1099 = x23 * x23
    x1101 = x23 * x1099
    del x1099
    x1104 = x205 * x1090
    x1106 = x148 * x1091
    x1110 = x89 * x89
    x1111 = x1110 * x89
    del x1110
    x1117 = valid * x499
    x1118 = x1091 * x259
    x1121 = x1104.sum(2)
    x1123 = x1098[:, :, :, None] * x158
    x1124 = x1123.sum(2)
    del x1123
    x1128 = tiles.addcmul_(x1124 * x1089, x205, x1089)
    x1135 = x1093[:, :, :, None] * do
    x1142 = (x150 @ x1090[..., None]).squeeze(-1)
    x1143 = x1091[:, :, None] * x150
    x1145 = x1143 @ x158
    del x1143
    x1146 = tiles.product(x1145, x23[:, :, :, None], x1086[:, :, None])
    x1148 = tiles.addcmul_(-x1146, x1086[:, :, None], x994, -1)
    del x1146
    x1150 = x23 * x1142
    x1153 = torch.addcmul(v, x1150[:, :, :, None], x39, value=-1)
    x1153 = tiles.addcmul_(x1153, x1092[:, :, :, None], x44, -1)
    x1155 = (x177 @ x1090[..., None]).squeeze(-1)
    x1156 = x89 * x1155
    x1158 = x1091[:, :, None] * x177
    del x1091
    x1160 = x1158 @ x158
    del x1158
    x1161 = tiles.product(x1160, x89[:, :, :, None], x1086[:, :, None])
    x1163 = torch.addcmul(x1161, x1086[:, :, None], x950)
    del x1161
    x1164 = x105 * x1163
    x1166 = x1165 @ x1153
    del x1153
    x1174 = x1092[:, :, :, None] * k
    x1175 = x1164.mT @ do
    del x1164
    x1181 = x1156[:, :, :, None] * q
    x1212 = do @ x1166.mT
    x1213 = x1163 * x1212
    del x1163
    x1214 = x105 * x1212
    del x105, x1212
    x1215 = x177 * x1214
    x1216 = x1086[:, :, None] * x1215
    x1217 = x1086[:, :, None] * x1214
    x1219 = x89[:, :, :, None] * x1215
    del x1215
    x1220 = x1219.sum(2)
    del x1219
    x1222 = x1216.sum(3)
    del x1216
    x1223 = x1160 * x1214
    del x1160
    x1224 = x1086[:, :, None] * x1223
    x1225 = x89[:, :, :, None] * x1223
    del x1223
    x1226 = x1225.sum(2)
    del x1225
    x1228 = x1224.sum(3)
    del x1224
    x1229 = x1217 @ x158.mT
    x1230 = x950.mT @ x1214
    del x1214, x950
    x1232 = x177 * x1229
    del x1229
    x1233 = x89[:, :, :, None] * x1232
    del x1232
    x1235 = x1233.sum(2)
    x1276 = tiles.product(x1230, x11[:, :, :, None], x1086[:, :, None])
    del x1230
    x1303 = x1213.mT @ q
    x1307 = x1220 * x1088
    x1308 = x1226 * x1088
    x1315 = x1220 * x1087
    del x1220
    x1316 = x1226 * x1087
    del x1226
    x1322 = valid * x1235
    del x1235
    x1329 = x1150[:, :, :, None] * k
    x1369 = q * x514
    x1370 = x1369.sum(3)
    del x1369
    x1376 = x1370 * x1093 * x259
    x1377 = tiles.suffix_sum(x1376, 2)
    del x1376
    x1380 = q * x519
    x1381 = x1380.sum(3)
    del x1380
    x1383 = tiles.addcmul_(x1222 + x1228, x181, x1370)
    x1383 = tiles.addcmul_(x1383, x1381, x1155)
    del x1155, x1222, x1228, x1370, x181
    x1384 = x1111 * x1383
    del x1111, x1383
    x1386 = tiles.addcmul_(x1093[:, :, :, None] * x514, x1156[:, :, :, None], x519)
    x1386 = tiles.addcmul_(x1386, x1384[:, :, :, None], q, -1)
    x1386 = tiles.addmm_(x1386, x1213, k)
    del x1093, x1156, x1213, x1384, x514, x519
    x1387 = x89 * x1381
    del x1381
    x1389 = tiles.addcmul_(x1387[:, :, :, None] * x1106[:, :, None], x89[:, :, :, None], x1217)
    del x1217, x89
    x1390 = x177 * x1389 * x259
    del x1389
    x1391 = torch.addcmul(x1390, x1118[:, :, None], x1233)
    del x1233, x1390
    x1392 = tiles.segment_sum_grad(x1391)
    del x1391
    x1395 = (x1387[..., None, :] @ x177).squeeze(-2)
    del x1387, x177
    x1406 = x1128[:, :, :, None] * k
    x1408 = x1094[:, :, :, None] * k
    x257_rows = scan.Rows(steps, H, True)
    x265_rows = scan.Rows(steps, H, True)
    x297_rows = scan.Rows(steps, H, True)
    x1183_rows = scan.Rows(steps, H, True)
    x1203_rows = scan.Rows(steps, H, True)
    x1411_rows = scan.Rows(steps, H, True)
    (dM_end, dS_end) = scan.flat(dht)
    dM = dM_end[:0]
    dS = dS_end[:0]
    own = False
    for n, (
        x1406_c,
        x1408_c,
        x1175_c,
        x1165_c,
        S_c,
        M_c,
        x1166_c,
        x212_c,
        q_c,
        x1135_c,
        x1174_c,
        x1121_c,
        x197_c,
        x1181_c,
        do_c,
        x1329_c,
    ) in scan.each(
        steps,
        H,
        (
            x1406,
            x1408,
            x1175,
            x1165.mT,
            S,
            M,
            x1166,
            x212[:, :, None, None],
            q.mT,
            x1135,
            x1174.mT,
            x1121[:, :, None, None],
            x197[:, :, None, None],
            x1181.mT,
            do,
            x1329.mT,
        ),
        True,
    ):
        if dM.shape[0] < n:
            dM = torch.cat([dM, dM_end[dM.shape[0] : n]])
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x1410 = scan.addmm(torch.baddbmm(x1175_c, x1406_c, dS), x1408_c, dM)
        x1411 = torch.bmm(x1165_c, x1410, out=x1411_rows.room(n))
        x256 = S_c * dS
        x257 = x256.sum(1)
        x264 = M_c * dS
        x265 = x264.sum(1)
        x296 = M_c * dM
        x297 = x296.sum(1)
        x1183 = torch.bmm(x1166_c, dS.mT, out=x1183_rows.room(n))
        x1203 = torch.bmm(x1166_c, dM.mT, out=x1203_rows.room(n))
        x1481 = scan.addmm(scan.addmm(x212_c * dS, q_c, x1135_c), x1174_c, x1411, -1)
        x1482 = tiles.addcmul_(scan.scale(dM, x197_c, own), x1121_c, dS)
        x1482 = scan.addmm(scan.addmm(x1482, x1181_c, do_c), x1329_c, x1411, -1)
        x257_rows.put(x257)
        x265_rows.put(x265)
        x297_rows.put(x297)
        x1183_rows.put(x1183)
        x1203_rows.put(x1203)
        x1411_rows.put(x1411)
        dM, dS = x1482, x1481
        own = True
    dM_end = torch.cat([dM, dM_end[dM.shape[0] :]]) if dM.shape[0] < dM_end.shape[0] else dM
    dM_end = dM_end.unflatten(0, (-1, H))
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x257 = x257_rows.joined()
    x265 = x265_rows.joined()
    x297 = x297_rows.joined()
    x1183 = x1183_rows.joined()
    x1203 = x1203_rows.joined()
    x1411 = x1411_rows.joined()
    del x257_rows
    del x265_rows
    del x297_rows
    del x1183_rows
    del x1203_rows
    del x1411_rows
    del x1121, x1135, x1174, x1175, x1181, x1329, x1406, x1408
    x258 = x257.sum(2)
    del x257
    x261 = x212 * x258 * x259
    del x212, x258
    x262 = x261[:, :, None].expand(-1, -1, C)
    del x261
    x266 = x265.sum(2)
    del x265
    x298 = x297.sum(2)
    del x297
    x300 = x197 * x298 * x259
    del x197, x298
    x301 = x300[:, :, None].expand(-1, -1, C)
    del x300
    x1109 = x266 * x259
    x1132 = tiles.product(x148, x1097, x266[:, :, None])
    del x148
    x1185 = k * x1183
    x1186 = x1185.sum(3)
    del x1185
    x1187 = x205 * x1186
    x1191 = x1124 * x1186
    del x1124
    x1195 = x1186 * x1086
    x1196 = x1195[:, :, None] * x158
    x1197 = x1196.sum(3)
    del x1196
    x1200 = tiles.addcmul_(x266[:, :, None] * x1090, x1186, x1089)
    x1200 = tiles.addcmul_(x1200, x11, x1197)
    del x1089, x1186, x266
    x1201 = x205 * x1200 * x259
    del x1200, x205
    x1202 = tiles.prefix_sum(x1201, 2, exclusive=True)
    del x1201
    x1205 = k * x1203
    x1206 = x1205.sum(3)
    del x1205
    x1207 = x200 * x1206
    del x200
    x1210 = x1206 * x1094 * x259
    del x1206
    x1211 = tiles.prefix_sum(x1210, 2, exclusive=True)
    del x1210
    x1281 = tiles.product(x466, x1098[:, :, :, None], x1195[:, :, None])
    del x1098, x1195
    x1334 = tiles.addcmul_(x1088 * x1187, x1088, x1191)
    x1334 = tiles.addcmul_(x1334, x1088, x1207)
    x1336 = torch.addcmul(x1132, x1197, x1097)
    del x1097, x1132, x1197
    x1413 = x1411 @ x1166.mT
    del x1166
    x1414 = x1413.tril(-1)
    del x1413
    x1415 = x44 * x1411
    del x44
    x1416 = x1415.sum(3)
    del x1415
    x1417 = x1416 * x1092 * -1 * x259
    x1418 = x39 * x1411
    del x39
    x1419 = x1418.sum(3)
    del x1418
    x1420 = x23 * x1419
    x1421 = x1420 * -1
    x1422 = x1148 * x1414
    del x1148
    x1423 = x68 * x1414
    del x1414, x68
    x1424 = x150 * x1423
    x1425 = x1086[:, :, None] * x1424
    x1426 = x1425.sum(3)
    del x1425
    x1427 = x23[:, :, :, None] * x1424
    del x1424
    x1428 = x1427.sum(2)
    del x1427
    x1430 = x1145 * x1423
    del x1145
    x1431 = x1086[:, :, None] * x1430
    x1432 = x1431.sum(3)
    del x1431
    x1433 = x23[:, :, :, None] * x1430
    del x1430
    x1434 = x1433.sum(2)
    del x1433
    x1436 = x1086[:, :, None] * x1423
    x1438 = x1436 @ x158.mT
    del x158
    x1439 = x994.mT @ x1423
    del x1423, x994
    x1441 = x150 * x1438
    del x1438
    x1442 = x23[:, :, :, None] * x1441
    del x1441
    x1444 = x1442.sum(2)
    x1446 = tiles.product(x1439, x11[:, :, :, None], x1086[:, :, None])
    del x1086, x11, x1439
    x1447 = x1276 - x1446
    del x1276, x1446
    x1449 = torch.addcmul(x1281, x1447, x466)
    del x1281, x1447, x466
    x1450 = tiles.segment_sum_grad(x1449, exclusive=True)
    del x1449
    x1451 = tiles.suffix_sum(x1417, 2, exclusive=True)
    del x1417
    x1452 = (x1421[..., None, :] @ x150).squeeze(-2)
    del x1421
    x1455 = tiles.addcmul_(x23[:, :, :, None] * -1 * x1436, x1420[:, :, :, None], x1106[:, :, None], -1)
    del x1106, x1420, x1436, x23
    x1456 = x150 * x1455 * x259
    del x1455, x150
    x1458 = torch.addcmul(x1456, x1118[:, :, None], x1442, value=-1)
    del x1118, x1442, x1456
    x1459 = tiles.segment_sum_grad(x1458, exclusive=True)
    del x1458
    x1461 = x1422.mT @ k
    x1464 = tiles.addcmul_(x1307 + x1308, x1428, x1088, -1)
    x1464 = tiles.addcmul_(x1464, x1434, x1088, -1)
    del x1088, x1307, x1308
    x1471 = tiles.addcmul_(x1315 + x1316, x156, x1416, -1)
    x1471 = tiles.addcmul_(tiles.addcmul_(x1471, x1142, x1419, -1), x1428, x1087, -1)
    x1471 = tiles.addcmul_(x1471, x1434, x1087, -1)
    del x1142, x1315, x1316, x1416, x1419, x1428, x1434, x156
    x1473 = torch.addcmul(x1322, valid, x1444, value=-1)
    del x1322, x1444
    x1475 = x1411 @ S.mT
    x1477 = x1411 @ M.mT
    x1479 = tiles.addcmul_(-x1426 - x1432, x1087, x1187)
    x1479 = tiles.addcmul_(tiles.addcmul_(x1479, x1087, x1191), x1087, x1207)
    del x1087, x1187, x1191, x1207, x1426, x1432
    x1483 = tiles.addcmul_(x643 * x1464, x643, x1334)
    del x1334, x1464, x643
    x1487 = tiles.addcmul_(x1479 * -1 * x1101, x1471, x1101, -1)
    del x1101, x1471, x1479
    x1489 = tiles.addcmul_(x1303 + x1461, x1128[:, :, :, None], x1183)
    x1489 = tiles.addcmul_(x1489, x1094[:, :, :, None], x1203)
    x1489 = tiles.addcmul_(x1489, x1487[:, :, :, None], k)
    x1489 = tiles.addcmul_(x1489, x1092[:, :, :, None], x1475, -1)
    x1489 = tiles.addcmul_(x1489, x1150[:, :, :, None], x1477, -1)
    x1489 = tiles.addmm_(x1489, x1422, k)
    del x1092, x1094, x1128, x1150, x1183, x1203, x1303, x1422, x1461, x1475, x1477, x1487
    x1490 = x262 + x1377 + x1202 + x1392 + x1451 + x1459
    del x1202, x1377, x1392, x1451, x1459, x262
    x1491 = tiles.product(x14, x1490, x1117, (-1))
    del x14, x1490
    x1492 = x1395 + x1452
    del x1395, x1452
    x1493 = x1492 * x1090
    del x1090, x1492
    x1494 = x1493 * x259
    x1495 = torch.addcmul(x1494, x1109[:, :, None], x1104)
    del x1104, x1109, x1494
    x1496 = tiles.suffix_sum(x1495, 2, exclusive=True)
    del x1495
    x1497 = x301 + x1211 + x1450 + x1496
    del x1211, x1450, x1496, x301
    x1498 = tiles.product(x507, x1497, x1117)
    del x1117, x1497, x507
    x1500 = tiles.addcmul_(torch.addcmul(x1498, x646, x1473), x597, x1493)
    x1500 = tiles.addcmul_(x1500, x646, x1336)
    del x1336, x1473, x1493, x1498, x597, x646
    return (x1386, x1489, x1411, x1491, x1500, x1483), (dM_end, dS_end)


def recurrent_forward(args, valid, h0, steps, keep):
    (q, k, v, a_, b_, c) = args
    H = h0[0].shape[1]
    x9 = k * k
    x10 = x9.sum(2)
    del x9
    x12 = x10 + 1e-06
    del x10
    x13 = torch.rsqrt(x12)
    del x12
    x15 = (x13 * -1)[:, :, None] * k
    x19 = torch.sigmoid(b_)
    x21 = torch.sigmoid(c)
    x25 = torch.sigmoid(a_)
    x27 = -x25 + 1
    del x25
    x30 = q * q
    x31 = x30.sum(2)
    del x30
    x32 = x31 + 1e-06
    del x31
    x33 = torch.rsqrt(x32)
    del x32
    x34 = x33[:, :, None] * q
    del x33
    x132 = x13 * x21
    del x13, x21
    x178 = x132[:, :, None] * k
    del x132
    M_rows = scan.Rows(steps, H)
    S_rows = scan.Rows(steps, H)
    x182_rows = scan.Rows(steps, H)
    (M, S) = scan.flat(h0)
    M_done = []
    S_done = []
    own = False
    for n, (
        x15_c,
        v_c,
        x19_c,
        x178_c,
        x27_c,
        x34_c,
    ) in scan.each(
        steps,
        H,
        (
            x15,
            v,
            x19,
            x178,
            x27[:, :, None, None],
            x34,
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
        x17 = (x15_c[..., None, :] @ S).squeeze(-2)
        x18 = v_c + x17
        x20 = x19_c[:, None, None] * M
        x179 = x178_c[:, :, None] * x18[:, None]
        x181 = scan.scale(S, x27_c, own) + x20 + x179
        x182 = (x34_c[..., None, :] @ x181).squeeze(-2)
        x180 = x20 + x179
        x182_rows.put(x182)
        M, S = x180, x181
        own = True
    M_end = torch.cat([M, *reversed(M_done)]) if M_done else M
    M_end = M_end.unflatten(0, (-1, H))
    S_end = torch.cat([S, *reversed(S_done)]) if S_done else S
    S_end = S_end.unflatten(0, (-1, H))
    x182 = x182_rows.joined()
    if keep:
        M = M_rows.joined()
        S = S_rows.joined()
    del M_rows
    del S_rows
    del x182_rows
    del x15, x178, x19, x27, x34
    return (x182,), (M_end, S_end), (M, S) if keep else None


def recurrent_states(args, valid, h0, steps, keep):
    (_, k, v, a_, b_, c) = args
    H = h0[0].shape[1]
    x9 = k * k
    x10 = x9.sum(2)
    del x9
    x12 = x10 + 1e-06
    del x10
    x13 = torch.rsqrt(x12)
    del x12
    x15 = (x13 * -1)[:, :, None] * k
    x19 = torch.sigmoid(b_)
    x21 = torch.sigmoid(c)
    x25 = torch.sigmoid(a_)
    x27 = -x25 + 1
    del x25
    x132 = x13 * x21
    del x13, x21
    x178 = x132[:, :, None] * k
    del x132
    M_rows = scan.Rows(steps, H)
    S_rows = scan.Rows(steps, H)
    (M, S) = scan.flat(h0)
    M_done = []
    S_done = []
    own = False
    for n, (
        x15_c,
        v_c,
        x19_c,
        x178_c,
        x27_c,
    ) in scan.each(
        steps,
        H,
        (
            x15,
            v,
            x19,
            x178,
            x27[:, :, None, None],
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
        x17 = (x15_c[..., None, :] @ S).squeeze(-2)
        x18 = v_c + x17
        x20 = x19_c[:, None, None] * M
        x179 = x178_c[:, :, None] * x18[:, None]
        x180 = x20 + x179
        x181 = scan.scale(S, x27_c, own) + x20 + x179
        M, S = x180, x181
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
    del x15, x178, x19, x27
    return (), (M_end, S_end), (M, S) if keep else None


def recurrent_backward(args, valid, h0, steps, kept, douts, dht):
    (q, k, v, a_, b_, c) = args
    if kept is None:
        kept = recurrent_states(args, valid, h0, steps, True)[2]
    (M, S) = kept
    (do,) = douts
    H = h0[0].shape[1]
    x9 = k * k
    x10 = x9.sum(2)
    del x9
    x12 = x10 + 1e-06
    del x10
    x13 = torch.rsqrt(x12)
    del x12
    x15 = (x13 * -1)[:, :, None] * k
    x17 = (x15[..., None, :] @ S).squeeze(-2)
    del x15
    x18 = v + x17
    del x17
    x19 = torch.sigmoid(b_)
    x21 = torch.sigmoid(c)
    x25 = torch.sigmoid(a_)
    x27 = -x25 + 1
    x30 = q * q
    x31 = x30.sum(2)
    del x30
    x32 = x31 + 1e-06
    del x31
    x33 = torch.rsqrt(x32)
    del x32
    x34 = x33[:, :, None] * q
    x98 = -x21 + 1
    x105 = -x19 + 1
    x132 = x13 * x21
    x133 = x13 * x132
    x134 = (x132[:, :, None] * k)[:, :, :, None] * x18[:, :, None]
    x136 = torch.addcmul(x134, x19[:, :, None, None], M)
    x136 = tiles.addcmul_(x136, x27[:, :, None, None], S)
    del x134
    x138 = (do[..., None, :] @ x136.mT).squeeze(-2)
    del x136
    x139 = do[:, :, None] * x34[:, :, :, None]
    del x34
    x141 = q * x138
    x142 = x141.sum(2)
    del x141
    x143 = tiles.product(x33, x33, x33, x142, (-0.5))
    del x142
    x177 = tiles.addcmul_(x33[:, :, None] * x138, x143[:, :, None], q, 2)
    del x138, x143, x33
    x183 = x133[:, :, None] * k
    del x133
    x145_rows = scan.Rows(steps, H, True)
    x151_rows = scan.Rows(steps, H, True)
    x156_rows = scan.Rows(steps, H, True)
    (dM_end, dS_end) = scan.flat(dht)
    dM = dM_end[:0]
    dS = dS_end[:0]
    for n, (
        x139_c,
        k_c,
        x19_c,
        x27_c,
        x183_c,
    ) in scan.each(
        steps,
        H,
        (
            x139,
            k,
            x19,
            x27[:, :, None, None],
            x183[:, :, :, None],
        ),
        True,
    ):
        if dM.shape[0] < n:
            dM = torch.cat([dM, dM_end[dM.shape[0] : n]])
        if dS.shape[0] < n:
            dS = torch.cat([dS, dS_end[dS.shape[0] : n]])
        x145 = dS + x139_c
        x151 = dM + dS + x139_c
        x155 = k_c[:, :, None] * x151
        x156 = x155.sum(1)
        x162 = x19_c[:, None, None] * x151
        x185 = tiles.addcmul_(x27_c * x145, x183_c, x156[:, None], -1)
        x145_rows.put(x145)
        x151_rows.put(x151)
        x156_rows.put(x156)
        dM, dS = x162, x185
    dM_end = torch.cat([dM, dM_end[dM.shape[0] :]]) if dM.shape[0] < dM_end.shape[0] else dM
    dM_end = dM_end.unflatten(0, (-1, H))
    dS_end = torch.cat([dS, dS_end[dS.shape[0] :]]) if dS.shape[0] < dS_end.shape[0] else dS
    dS_end = dS_end.unflatten(0, (-1, H))
    x145 = x145_rows.joined()
    x151 = x151_rows.joined()
    x156 = x156_rows.joined()
    del x145_rows
    del x151_rows
    del x156_rows
    del x139, x183
    x147 = S * x145
    del x145
    x148 = x147.sum(2)
    del x147
    x149 = x148.sum(2)
    del x148
    x150 = tiles.product(x25, x27, x149, (-1))
    del x149, x25, x27
    x152 = x18[:, :, None] * x151
    x153 = x152.sum(3)
    del x152
    x157 = x18 * x156
    del x18
    x158 = x157.sum(2)
    del x157
    x160 = x132[:, :, None] * x156
    del x156
    x161 = tiles.product(x158, x98, x132)
    del x98
    x163 = M * x151
    del x151
    x164 = x163.sum(2)
    del x163
    x165 = x164.sum(2)
    del x164
    x166 = tiles.product(x19, x165, x105)
    del x105, x165, x19
    x167 = (x160[..., None, :] @ S.mT).squeeze(-2)
    x168 = k * x167
    x169 = x168.sum(2)
    del x168
    x170 = tiles.addcmul_(-x169, x21, x158)
    del x158, x169, x21
    x171 = tiles.product(x13, x13, x13, x170, (-0.5))
    del x170
    x176 = tiles.addcmul_(x132[:, :, None] * x153, x171[:, :, None], k, 2)
    x176 = tiles.addcmul_(x176, x13[:, :, None], x167, -1)
    del x13, x132, x153, x167, x171
    return (x177, x176, x160, x150, x166, x161), (dM_end, dS_end)

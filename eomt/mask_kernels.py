"""Compiled loops over mask logits on a CPU, tile by tile: which query wins a pixel, how large and how sure a mask is.

Interpolation is a weighted mean, so inside a tile no value leaves the range of those that it is computed from. A query
whose best value in a tile cannot reach another's worst is passed over there; a mask without a positive logit below a
tile has no pixel in it. Most queries drop out of most tiles this way, and memory is that of the result.

`_resample` is torch's bilinear interpolation on a CPU to the last bit: along x, then along y, the first product fused
into the sum. `compiled_masks` and `compiled_semantic` call these kernels, once they have compared equal with the
installed torch. They are one module because numba's cache does not see a change of another module's functions.
"""

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from eomt.jit import compiled, inlined

TILE_ROWS, TILE_COLUMNS = 16, 32
BOUND_SLACK = np.float32(1e-6)  # relative; what rounding may add to a weighted mean, four times over
# Relative; four times what a product with `_sigmoid` and with torch's own may differ by.
SCORE_MARGIN = np.float32(2e-6)
UNDERFLOW = np.float32(1e-30)  # scores below it have few bits, or none: they are left to torch
LOG2_E, LOG2_E_REST = np.float32(1.4426950216293335), np.float32(1.9259629911266175e-8)

Indices: TypeAlias = NDArray[np.uint32]
Floats: TypeAlias = NDArray[np.float32]
Counts: TypeAlias = NDArray[np.int64]


class Upsampling(NamedTuple):
    """The two source positions, (2, length) uint32, and weights, (2, length) float32, of each row and column.

    Step 1 leads to the canvas; step 2, if there is one, from the part of it that the image filled to the image. Where
    it is missing its tables are those of step 1. `scratch1` and `scratch2` are float32 space for one tile.
    """

    height: int
    width: int
    two_steps: bool
    rows1: Indices
    row_weights1: Floats
    columns1: Indices
    column_weights1: Floats
    rows2: Indices
    row_weights2: Floats
    columns2: Indices
    column_weights2: Floats
    scratch1: Floats
    scratch2: Floats


_INDICES, _FLOATS = types.uint32[:, ::1], types.float32[:, ::1]
_UPSAMPLING = types.NamedTuple(
    [types.int64, types.int64, types.boolean, *[_INDICES, _FLOATS] * 4, _FLOATS, _FLOATS], Upsampling
)
_MASKS = types.float32[:, :, ::1]


@intrinsic  # type: ignore[untyped-decorator]
def _fma(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c in float32, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return types.float32(types.float32, types.float32, types.float32), generate


@intrinsic  # type: ignore[untyped-decorator]
def _float_of_bits(typing_context: Any, bits: Any) -> Any:
    """The float32 that has the bits of an int32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.float32))

    return types.float32(types.int32), generate


@inlined
def _sigmoid(x: np.float32) -> np.float32:
    """To a relative 3e-7; without a branch, so that a loop over it becomes vector instructions."""
    x = x if x < np.float32(87.0) else np.float32(87.0)
    x = x if x > np.float32(-87.0) else np.float32(-87.0)
    exponent = np.int32(_fma(x, -LOG2_E, np.float32(127.5)))  # of the nearest power of two, as float32 stores it
    part = _fma(x, -LOG2_E_REST, _fma(x, -LOG2_E, np.float32(np.int32(127) - exponent)))
    power = np.float32(1.5403530e-4)  # 2**part, as its Taylor series
    power = _fma(power, part, np.float32(1.3333558e-3))
    power = _fma(power, part, np.float32(9.6181291e-3))
    power = _fma(power, part, np.float32(5.5504109e-2))
    power = _fma(power, part, np.float32(2.4022651e-1))
    power = _fma(power, part, np.float32(6.9314718e-1))
    power = _fma(power, part, np.float32(1.0))
    below: np.float32 = _fma(power, _float_of_bits(exponent << np.int32(23)), np.float32(1.0))
    return np.float32(1.0) / below


@inlined
def _resample(
    source: Floats,
    origin: tuple[int, int],
    rows: Indices,
    row_weights: Floats,
    columns: Indices,
    column_weights: Floats,
    tile: tuple[int, int, int, int],
    lines: Floats,
    out: Floats,
) -> None:
    """One tile (y0, y1, x0, x1) of the interpolation of `source`, whose first pixel is at `origin`."""
    y0, y1, x0, x1 = tile
    first = rows[0, y0]
    for row in range(first, rows[1, y1 - 1] + 1):
        values, line = source[row - origin[0]], lines[row - first]
        for x in range(x0, x1):
            left, right = values[columns[0, x] - origin[1]], values[columns[1, x] - origin[1]]
            line[x - x0] = _fma(left, column_weights[0, x], right * column_weights[1, x])
    for y in range(y0, y1):
        upper, lower, line = lines[rows[0, y] - first], lines[rows[1, y] - first], out[y - y0]
        upper_weight, lower_weight = row_weights[0, y], row_weights[1, y]
        for x in range(x1 - x0):
            line[x] = _fma(upper[x], upper_weight, lower[x] * lower_weight)


@inlined
def _canvas_tile(up: Upsampling, tile: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """What of the canvas a tile of the image is computed from."""
    y0, y1, x0, x1 = tile
    if not up.two_steps:
        return tile
    return (
        int(up.rows2[0, y0]),
        int(up.rows2[1, y1 - 1]) + 1,
        int(up.columns2[0, x0]),
        int(up.columns2[1, x1 - 1]) + 1,
    )


@inlined
def _logits(mask: Floats, up: Upsampling, tile: tuple[int, int, int, int], out: Floats) -> None:
    """The logits of one tile of the image: mask (h, w) to the upper left corner of `out`."""
    canvas = _canvas_tile(up, tile)
    on_canvas = up.scratch2 if up.two_steps else out
    _resample(mask, (0, 0), up.rows1, up.row_weights1, up.columns1, up.column_weights1, canvas, up.scratch1, on_canvas)
    if up.two_steps:
        origin = (canvas[0], canvas[2])
        _resample(on_canvas, origin, up.rows2, up.row_weights2, up.columns2, up.column_weights2, tile, up.scratch1, out)


@inlined
def _range_on_canvas(mask: Floats, up: Upsampling, tile: tuple[int, int, int, int]) -> tuple[np.float32, np.float32]:
    """The smallest and the largest logit that a tile of the canvas is computed from."""
    y0, y1, x0, x1 = tile
    low = high = mask[up.rows1[0, y0], up.columns1[0, x0]]
    for y in range(up.rows1[0, y0], up.rows1[1, y1 - 1] + 1):
        for x in range(up.columns1[0, x0], up.columns1[1, x1 - 1] + 1):
            value = mask[y, x]
            low = value if value < low else low
            high = value if value > high else high
    return low, high


@inlined
def _range(mask: Floats, up: Upsampling, tile: tuple[int, int, int, int]) -> tuple[np.float32, np.float32]:
    """The same of a tile of the image."""
    return _range_on_canvas(mask, up, _canvas_tile(up, tile))


@compiled(
    types.UniTuple(types.int64, 2)(
        _MASKS,
        types.float32[::1],
        _UPSAMPLING,
        types.float32,
        types.float32,
        types.int32[:, ::1],
        types.int64[:, ::1],
        types.int64[::1],
        types.int64[:, ::1],
    ),
    error_model="numpy",
    on_demand=True,
)
def contest(
    masks: Floats,
    scores: Floats,
    up: Upsampling,
    threshold: np.float32,
    margin: np.float32,
    owner: NDArray[np.int32],
    areas: Counts,
    unsure_pixels: Counts,
    unsure_masks: Counts,
) -> tuple[int, int]:
    """Give each pixel to the query with the largest score x sigmoid(logit), if its logit reaches `threshold`.

    masks (n, h, w) finite, scores (n,) positive. Fills `owner` (height, width) with the winner, -1 where its mask does
    not cover the pixel, and adds to `areas` (3, n): pixels won, of the own mask, won and of the own mask.

    Decides only what no rounding can turn. Left out of the counts and listed instead are pixels where two queries are
    closer than `SCORE_MARGIN` or the winner's logit is within `margin` of the threshold (`unsure_pixels`: y * width +
    x), and pixels of a mask whose logit is (`unsure_masks`: query, pixel). Returns how many of each; (-1, -1) where
    they are more than these arrays hold.
    """
    count = len(masks)
    lows, highs = np.empty(count, np.float32), np.empty(count, np.float32)
    contends = np.empty(count, np.bool_)
    logits = np.empty((TILE_ROWS, TILE_COLUMNS), np.float32)
    best_logit = np.empty((TILE_ROWS, TILE_COLUMNS), np.float32)
    best, second = np.empty((TILE_ROWS, TILE_COLUMNS), np.float32), np.empty((TILE_ROWS, TILE_COLUMNS), np.float32)
    winner = np.empty((TILE_ROWS, TILE_COLUMNS), np.int32)
    pixels_listed, masks_listed = 0, 0
    for y0 in range(0, up.height, TILE_ROWS):
        for x0 in range(0, up.width, TILE_COLUMNS):
            y1, x1 = min(y0 + TILE_ROWS, up.height), min(x0 + TILE_COLUMNS, up.width)
            tile = (y0, y1, x0, x1)
            rows, columns = y1 - y0, x1 - x0

            assured = np.float32(0.0)
            for query in range(count):
                low, high = _range(masks[query], up, tile)
                slack = max(abs(low), abs(high)) * BOUND_SLACK
                lows[query], highs[query] = low - slack, high + slack
                assured = max(assured, scores[query] * _sigmoid(lows[query]))
            contenders = 0
            for query in range(count):
                reach = scores[query] * _sigmoid(highs[query])
                contends[query] = reach + reach * SCORE_MARGIN >= assured
                contenders += contends[query]

            best[:] = np.float32(-1.0)
            second[:] = np.float32(-1.0)
            for query in range(count):
                inside, outside = lows[query] > threshold + margin, highs[query] < threshold - margin
                if inside:
                    areas[1, query] += rows * columns
                settled = inside or outside
                if contends[query] and contenders == 1 and settled:
                    owner[y0:y1, x0:x1] = query if inside else -1
                    areas[0, query] += rows * columns
                    areas[2, query] += rows * columns if inside else 0
                    contenders = 0
                if settled and (not contends[query] or contenders == 0):
                    continue
                _logits(masks[query], up, tile, logits)
                if not settled:
                    near = 0
                    covered = 0
                    for y in range(rows):
                        line = logits[y]
                        for x in range(columns):
                            covered += line[x] > threshold + margin
                            near += abs(line[x] - threshold) <= margin
                    areas[1, query] += covered
                    if masks_listed + near > len(unsure_masks):
                        return -1, -1
                    if near:
                        for y in range(rows):
                            for x in range(columns):
                                if abs(logits[y, x] - threshold) <= margin:
                                    unsure_masks[masks_listed, 0] = query
                                    unsure_masks[masks_listed, 1] = (y0 + y) * up.width + x0 + x
                                    masks_listed += 1
                if not contends[query]:
                    continue
                score = scores[query]
                for y in range(rows):
                    line, line_best, line_second = logits[y], best[y], second[y]
                    line_winner, line_logit = winner[y], best_logit[y]
                    for x in range(columns):
                        value = score * _sigmoid(line[x])
                        leader = line_best[x]
                        ahead = value > leader
                        loser = leader if ahead else value
                        line_second[x] = loser if loser > line_second[x] else line_second[x]
                        line_best[x] = value if ahead else leader
                        line_winner[x] = np.int32(query) if ahead else line_winner[x]
                        line_logit[x] = line[x] if ahead else line_logit[x]
            if contenders == 0:
                continue

            for y in range(rows):
                for x in range(columns):
                    query = winner[y, x]
                    close = best[y, x] - second[y, x] <= SCORE_MARGIN * best[y, x] or best[y, x] < UNDERFLOW
                    if (close and contenders > 1) or abs(best_logit[y, x] - threshold) <= margin:
                        if pixels_listed == len(unsure_pixels):
                            return -1, -1
                        unsure_pixels[pixels_listed] = (y0 + y) * up.width + x0 + x
                        pixels_listed += 1
                        continue
                    owned = best_logit[y, x] > threshold
                    owner[y0 + y, x0 + x] = query if owned else -1
                    areas[0, query] += 1
                    areas[2, query] += owned
    return pixels_listed, masks_listed


@compiled(types.void(_MASKS, _UPSAMPLING, types.int64[::1], _FLOATS), error_model="numpy", on_demand=True)
def logits_at(masks: Floats, up: Upsampling, pixels: Counts, out: Floats) -> None:
    """The logits of masks (n, h, w) at pixels (m,) of the image, y * width + x each: fills `out` (m, n).

    Fastest where neighbours in `pixels` are of one tile, as `contest` lists them.
    """
    logits = np.empty((TILE_ROWS, TILE_COLUMNS), np.float32)
    start = 0
    while start < len(pixels):
        y0 = pixels[start] // up.width // TILE_ROWS * TILE_ROWS
        x0 = pixels[start] % up.width // TILE_COLUMNS * TILE_COLUMNS
        y1, x1 = min(y0 + TILE_ROWS, up.height), min(x0 + TILE_COLUMNS, up.width)
        end = start + 1
        while end < len(pixels) and y0 <= pixels[end] // up.width < y1 and x0 <= pixels[end] % up.width < x1:
            end += 1
        for query in range(len(masks)):
            _logits(masks[query], up, (y0, y1, x0, x1), logits)
            for number in range(start, end):
                out[number, query] = logits[pixels[number] // up.width - y0, pixels[number] % up.width - x0]
        start = end


@compiled(
    types.void(_MASKS, _UPSAMPLING, types.int64[::1], types.float64[::1], types.uint8[:, :, ::1]),
    error_model="numpy",
    on_demand=True,
)
def measure(masks: Floats, up: Upsampling, areas: Counts, sums: NDArray[np.float64], binary: NDArray[np.uint8]) -> None:
    """The area of each of masks (n, h, w), where the logit is positive, and the sum of probabilities inside.

    Fills `areas` (n,) and `sums` (n,) and, unless it is empty, sets the masks' pixels in `binary` (n, height, width).
    """
    logits = np.empty((TILE_ROWS, TILE_COLUMNS), np.float32)
    column_sums = np.empty(TILE_COLUMNS, np.float32)
    for query in range(len(masks)):
        for y0 in range(0, up.height, TILE_ROWS):
            for x0 in range(0, up.width, TILE_COLUMNS):
                y1, x1 = min(y0 + TILE_ROWS, up.height), min(x0 + TILE_COLUMNS, up.width)
                if _range(masks[query], up, (y0, y1, x0, x1))[1] <= 0:
                    continue
                _logits(masks[query], up, (y0, y1, x0, x1), logits)
                column_sums[:] = 0
                covered = 0
                for y in range(y1 - y0):
                    line = logits[y]
                    for x in range(x1 - x0):
                        inside = line[x] > 0
                        covered += inside
                        column_sums[x] += _sigmoid(line[x]) if inside else np.float32(0.0)
                    if len(binary):
                        pixels = binary[query, y0 + y, x0:x1]
                        for x in range(x1 - x0):
                            pixels[x] = line[x] > 0
                areas[query] += covered
                for x in range(x1 - x0):
                    sums[query] += column_sums[x]


@compiled(types.void(_MASKS, _UPSAMPLING, types.int32[::1], types.int32[:, ::1]), error_model="numpy", on_demand=True)
def paint(masks: Floats, up: Upsampling, labels: NDArray[np.int32], label_map: NDArray[np.int32]) -> None:
    """Write each mask's label into `label_map` (height, width) where its logit is positive; negative labels nowhere."""
    logits = np.empty((TILE_ROWS, TILE_COLUMNS), np.float32)
    for query in range(len(masks)):
        label = labels[query]
        if label < 0:
            continue
        for y0 in range(0, up.height, TILE_ROWS):
            for x0 in range(0, up.width, TILE_COLUMNS):
                y1, x1 = min(y0 + TILE_ROWS, up.height), min(x0 + TILE_COLUMNS, up.width)
                low, high = _range(masks[query], up, (y0, y1, x0, x1))
                if high <= 0:
                    continue
                if low > 0:
                    label_map[y0:y1, x0:x1] = label
                    continue
                _logits(masks[query], up, (y0, y1, x0, x1), logits)
                for y in range(y1 - y0):
                    line, labelled = logits[y], label_map[y0 + y]
                    for x in range(x1 - x0):
                        labelled[x0 + x] = label if line[x] > 0 else labelled[x0 + x]


@compiled(types.void(types.int32[:, ::1], types.int32[::1]), error_model="numpy", on_demand=True)
def relabel(label_map: NDArray[np.int32], new_labels: NDArray[np.int32]) -> None:
    """Replace each label of a map, in place; -1 picks the last of `new_labels` (n + 1,)."""
    for y in range(label_map.shape[0]):
        line = label_map[y]
        for x in range(label_map.shape[1]):
            line[x] = new_labels[line[x]]


@inlined
def _crop_tile(
    region: tuple[int, int, int, int], start: tuple[int, int], edge: tuple[int, int]
) -> tuple[int, int, int, int]:
    """The part of a region of the canvas that lies in a crop at `start`, in the crop's own pixels; may be empty."""
    y0, y1 = max(region[0] - start[0], 0), min(region[1] - start[0], edge[0])
    x0, x1 = max(region[2] - start[1], 0), min(region[3] - start[1], edge[1])
    return y0, y1, x0, x1


@compiled(
    types.int64(
        types.float32[:, :, :, ::1],
        types.float32[:, :, ::1],
        types.int64[:, ::1],
        types.UniTuple(types.int64, 2),
        _UPSAMPLING,
        types.int64[:, ::1],
        types.int64[::1],
    ),
    error_model="numpy",
    on_demand=True,
)
def vote(
    masks: Floats,
    weights: Floats,
    starts: Counts,
    edge: tuple[int, int],
    up: Upsampling,
    label_map: Counts,
    unsure_pixels: Counts,
) -> int:
    """Give each pixel the class with the largest sum over queries of weight x sigmoid(logit), crops averaged.

    masks (crops, Q, h, w) finite, weights (crops, Q, K) not negative; crop i, of size `edge`, begins at starts[i] on a
    canvas that the crops cover; step 1 of `up` leads to a crop, step 2 from the canvas to the image. Fills `label_map`
    (height, width), and lists in `unsure_pixels` (y * width + x) those where two classes are closer than rounding may
    bring them. Returns how many; -1 where they are more than the array holds.

    Where the best class's lead stays positive with each sigmoid anywhere in its range, the tile is that class's.
    Elsewhere classes are computed from the most promising on, until no other can reach what every pixel has by then.
    Queries that cannot move a score noticeably are not computed: the middle of their range stands in.
    """
    crops, queries, classes = weights.shape
    margin = np.float32(4e-7) * queries + np.float32(1e-6)
    room = (up.scratch2.shape[0], up.scratch2.shape[1])
    middles, halves = np.empty((crops, queries), np.float32), np.empty((crops, queries), np.float32)
    heaviest = np.empty((crops, queries), np.float32)
    for crop in range(crops):
        for query in range(queries):
            heaviest[crop, query] = weights[crop, query].max()
    totals, leads = np.empty(classes, np.float32), np.empty(classes, np.float32)
    uppers, worst = np.empty(classes, np.float32), np.empty(classes, np.float32)
    probabilities = np.empty((crops, queries, *room), np.float32)
    computed = np.empty((crops, queries), np.bool_)
    votes, covered = np.empty(room, np.float32), np.empty(room, np.float32)
    scores = np.empty((TILE_ROWS, TILE_COLUMNS), np.float32)
    best, second = np.empty((TILE_ROWS, TILE_COLUMNS), np.float32), np.empty((TILE_ROWS, TILE_COLUMNS), np.float32)
    winner = np.empty((TILE_ROWS, TILE_COLUMNS), np.int64)
    listed = 0
    for y0 in range(0, up.height, TILE_ROWS):
        for x0 in range(0, up.width, TILE_COLUMNS):
            y1, x1 = min(y0 + TILE_ROWS, up.height), min(x0 + TILE_COLUMNS, up.width)
            rows, columns = y1 - y0, x1 - x0
            region = _canvas_tile(up, (y0, y1, x0, x1))
            region_rows, region_columns = region[1] - region[0], region[3] - region[2]

            totals[:] = 0
            uppers[:] = 0
            for crop in range(crops):
                part = _crop_tile(region, (starts[crop, 0], starts[crop, 1]), edge)
                if part[0] >= part[1] or part[2] >= part[3]:
                    continue
                leads[:] = 0
                for query in range(queries):
                    low, high = _range_on_canvas(masks[crop, query], up, part)
                    low, high = _sigmoid(low), _sigmoid(high)
                    middle, half = (low + high) * np.float32(0.5), (high - low) * np.float32(0.5) + high * BOUND_SLACK
                    middles[crop, query], halves[crop, query] = middle, half
                    weight = weights[crop, query]
                    for c in range(classes):
                        totals[c] += weight[c] * middle
                        leads[c] += weight[c] * (middle + half)
                for c in range(classes):
                    uppers[c] = leads[c] if leads[c] > uppers[c] else uppers[c]
            leader = int(np.argmax(totals))
            most = uppers[leader]

            worst[:] = np.inf
            for crop in range(crops):
                part = _crop_tile(region, (starts[crop, 0], starts[crop, 1]), edge)
                if part[0] >= part[1] or part[2] >= part[3]:
                    continue
                leads[:] = 0
                for query in range(queries):
                    weight, middle, half = weights[crop, query], middles[crop, query], halves[crop, query]
                    own = weight[leader]
                    for c in range(classes):
                        lead = own - weight[c]
                        leads[c] += lead * middle - abs(lead) * half
                for c in range(classes):
                    worst[c] = leads[c] if leads[c] < worst[c] else worst[c]
            left = 1
            for c in range(classes):
                if c != leader and worst[c] <= most * margin:
                    left += 1
                elif c != leader:
                    uppers[c] = np.float32(-1.0)
            if left == 1:
                for y in range(y0, y1):
                    for x in range(x0, x1):
                        label_map[y, x] = leader
                continue

            for y in range(region_rows):
                for x in range(region_columns):
                    covered[y, x] = 0
            allowance = np.float32(0.0)
            for crop in range(crops):
                part = _crop_tile(region, (starts[crop, 0], starts[crop, 1]), edge)
                spent = np.float32(0.0)
                for query in range(queries):
                    error = heaviest[crop, query] * halves[crop, query]
                    computed[crop, query] = spent + error > most * margin
                    if part[0] >= part[1] or part[2] >= part[3]:
                        continue
                    if not computed[crop, query]:
                        spent += error
                        continue
                    logits = probabilities[crop, query]
                    _resample(
                        masks[crop, query],
                        (0, 0),
                        up.rows1,
                        up.row_weights1,
                        up.columns1,
                        up.column_weights1,
                        part,
                        up.scratch1,
                        logits,
                    )
                    for y in range(part[1] - part[0]):
                        line = logits[y]
                        for x in range(part[3] - part[2]):
                            line[x] = _sigmoid(line[x])
                top, side = part[0] + starts[crop, 0] - region[0], part[2] + starts[crop, 1] - region[2]
                for y in range(part[1] - part[0]):
                    for x in range(part[3] - part[2]):
                        covered[top + y, side + x] += np.float32(1.0)
                allowance = max(allowance, np.float32(2.0) * spent)

            best[:] = np.float32(-1.0)
            second[:] = np.float32(-1.0)
            reached = np.float32(-1.0)
            for _ in range(left):
                c = int(np.argmax(uppers))
                if uppers[c] * (np.float32(1.0) + margin) + allowance < reached:
                    break
                uppers[c] = np.float32(-1.0)
                for y in range(region_rows):
                    line = votes[y]
                    for x in range(region_columns):
                        line[x] = 0
                for crop in range(crops):
                    part = _crop_tile(region, (starts[crop, 0], starts[crop, 1]), edge)
                    if part[0] >= part[1] or part[2] >= part[3]:
                        continue
                    top, side = part[0] + starts[crop, 0] - region[0], part[2] + starts[crop, 1] - region[2]
                    stand_in = np.float32(0.0)
                    for query in range(queries):
                        weight = weights[crop, query, c]
                        if not computed[crop, query]:
                            stand_in += weight * middles[crop, query]
                            continue
                        for y in range(part[1] - part[0]):
                            line, probability = votes[top + y, side:], probabilities[crop, query, y]
                            for x in range(part[3] - part[2]):
                                line[x] += weight * probability[x]
                    for y in range(part[1] - part[0]):
                        line = votes[top + y, side:]
                        for x in range(part[3] - part[2]):
                            line[x] += stand_in
                for y in range(region_rows):
                    line, share = votes[y], covered[y]
                    for x in range(region_columns):
                        line[x] /= share[x]
                if up.two_steps:
                    _resample(
                        votes,
                        (region[0], region[2]),
                        up.rows2,
                        up.row_weights2,
                        up.columns2,
                        up.column_weights2,
                        (y0, y1, x0, x1),
                        up.scratch1,
                        scores,
                    )
                reached = np.float32(np.inf)
                for y in range(rows):
                    line = scores[y] if up.two_steps else votes[y]
                    line_best, line_second, line_winner = best[y], second[y], winner[y]
                    for x in range(columns):
                        value = line[x]
                        ahead = value > line_best[x]
                        loser = line_best[x] if ahead else value
                        line_second[x] = loser if loser > line_second[x] else line_second[x]
                        line_best[x] = value if ahead else line_best[x]
                        line_winner[x] = c if ahead else line_winner[x]
                        reached = line_best[x] if line_best[x] < reached else reached
            for y in range(rows):
                for x in range(columns):
                    label_map[y0 + y, x0 + x] = winner[y, x]
                    if best[y, x] - second[y, x] <= best[y, x] * margin + allowance or best[y, x] < UNDERFLOW:
                        if listed == len(unsure_pixels):
                            return -1
                        unsure_pixels[listed] = (y0 + y) * up.width + x0 + x
                        listed += 1
    return listed


@compiled(types.void(types.float32[:, :, ::1], _FLOATS, _FLOATS, _FLOATS), error_model="numpy", on_demand=True)
def blend(corners: Floats, row_weights: Floats, column_weights: Floats, out: Floats) -> None:
    """`_resample` at m single pixels: `out` (m, K) of corners (4, m, K), upper and then lower, left and then right.

    Weights are (2, m).
    """
    for pixel in range(out.shape[0]):
        left, right = column_weights[0, pixel], column_weights[1, pixel]
        for k in range(out.shape[1]):
            upper = _fma(corners[0, pixel, k], left, corners[1, pixel, k] * right)
            lower = _fma(corners[2, pixel, k], left, corners[3, pixel, k] * right)
            out[pixel, k] = _fma(upper, row_weights[0, pixel], lower * row_weights[1, pixel])

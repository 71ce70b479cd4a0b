// How many columns show n pictures best. Pure.

export interface GridLayout {
  columns: number;
  /** CSS pixels. */
  tileWidth: number;
  tileHeight: number;
}

const MIN_TILE_WIDTH = 150;

/**
 * The largest tiles (16:9 where that fits) that let `count` of them fit into `width` x `height` CSS
 * pixels with `gap` between them. If they would  * become narrower than 150 px the grid keeps that width and scrolls. Tiles bend down to 3:5 in upright windows.
 */
export function gridLayout(count: number, width: number, height: number, gap: number): GridLayout {
  let best: GridLayout = { columns: 1, tileWidth: 0, tileHeight: 0 };
  for (let columns = 1; columns <= Math.max(1, count); columns++) {
    const rows = Math.ceil(count / columns);
    const room = { width: (width - gap * (columns - 1)) / columns, height: (height - gap * (rows - 1)) / rows };
    const ratio = tileRatio(room.width / Math.max(1, room.height));
    const tileWidth = Math.floor(Math.min(room.width, room.height * ratio));
    const tileHeight = Math.floor(tileWidth / ratio);
    if (tileWidth * tileHeight > best.tileWidth * best.tileHeight) best = { columns, tileWidth, tileHeight };
  }
  if (best.tileWidth >= MIN_TILE_WIDTH) return best;
  const columns = Math.max(1, Math.floor((width + gap) / (MIN_TILE_WIDTH + gap)));
  const tileWidth = Math.floor((width - gap * (columns - 1)) / columns);
  return { columns, tileWidth, tileHeight: Math.floor((tileWidth * 9) / 16) };
}

/** Tiles bend a little towards the room they have, so that less of the window stays empty; the picture is cropped to fit. */
function tileRatio(roomRatio: number): number {
  return Math.min(16 / 9, Math.max(3 / 5, roomRatio));
}

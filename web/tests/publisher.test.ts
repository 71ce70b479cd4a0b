import { expect, test } from 'vitest';
import { cameraEncodings } from '../src/client/publisher';

function sizes(width: number, height: number): (number | null)[] {
  return cameraEncodings({ width, height }).map((one) =>
    one.active === false ? null : width / (one.scaleResolutionDownBy ?? 1),
  );
}

test('a large camera has three layers, a small one fewer, and the last one is always its full size', () => {
  expect(sizes(1280, 720)).toEqual([320, 640, 1280]);
  expect(sizes(960, 540)).toEqual([240, 480, 960]);
  expect(sizes(640, 480)).toEqual([320, 640, null]);
  expect(sizes(640, 360)).toEqual([320, 640, null]);
  expect(sizes(320, 240)).toEqual([320, null, null]);
});

test('every layer has a rid, and the bits that its width needs', () => {
  expect(cameraEncodings({}).map(({ rid, maxBitrate }) => [rid, maxBitrate])).toEqual([
    ['q', 150_000],
    ['h', 400_000],
    ['f', 1_200_000],
  ]);
  expect(cameraEncodings({ width: 640, height: 480 }).map(({ maxBitrate }) => maxBitrate)).toEqual([150_000, 400_000, undefined]);
});

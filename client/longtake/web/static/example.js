// The job file that the page shows to those who have none: it needs nothing but ffmpeg.

export const EXAMPLE = `name: first film
frames: {first: 0, count: 240, per_chunk: 20}
fps: 24
command: >-
  ffmpeg -nostdin -v error -f lavfi
  -i testsrc2=size=640x360:rate=24,trim=start_frame={start},setpts=PTS-STARTPTS
  -frames:v {count} -c:v libx264 -pix_fmt yuv420p {output}
chunk_output: chunks/{chunk:06}.mp4
output: first-film.mp4
max_parallel: 4
`;

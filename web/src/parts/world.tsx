// A map of the world, each country as dark as its share. The list beside it says
// the same in words, and has the countries that are too small to be drawn.
import { feature } from 'topojson-client';
import { geoNaturalEarth1, geoPath } from 'd3-geo';
import codes from 'i18n-iso-countries/codes.json';
import type { FeatureCollection, Geometry } from 'geojson';
import type { GeometryCollection, Topology } from 'topojson-specification';
import { useTranslation } from 'react-i18next';
import atlas from 'world-atlas/countries-110m.json';
import { format } from '../i18n';

const world = atlas as unknown as Topology<{ countries: GeometryCollection }>;
const letters = new Map(codes.map(([alpha2, , numeric]) => [numeric, alpha2]));
const width = 800;
const height = 400;
const countries = feature(world, world.objects.countries) as FeatureCollection<Geometry>;
const draw = geoPath(geoNaturalEarth1().fitSize([width, height], { type: 'Sphere' }));
const shapes = countries.features.map((f) => ({ code: letters.get(String(f.id)) ?? '', path: draw(f) ?? '' }));

export function World({ counts }: { counts: { value: string; count: number }[] }) {
  const { t } = useTranslation();
  const by = new Map(counts.map((c) => [c.value, c.count]));
  const most = Math.max(1, ...by.values());
  return (
    <svg viewBox={`0 0 ${width} ${height}`} width="100%" role="img" aria-label={t('stats.map', { count: by.size })}>
      {shapes.map(({ code, path }, i) => {
        const n = by.get(code) ?? 0;
        // By the logarithm: one country with a thousand leaves the others seen.
        const share = n === 0 ? 0 : 0.25 + 0.75 * (Math.log1p(n) / Math.log1p(most));
        return (
          <path key={i} d={path} fill={n === 0 ? 'var(--mantine-color-default-hover)' : 'var(--mantine-primary-color-filled)'} fillOpacity={n === 0 ? 1 : share} stroke="var(--mantine-color-default-border)" strokeWidth={0.5}>
            {n > 0 && <title>{`${format.country(code)}: ${format.number(n)}`}</title>}
          </path>
        );
      })}
    </svg>
  );
}

// A graph of relations on a canvas. It is a picture of what the list beside it
// says in words: whoever cannot see it or use a mouse loses nothing.
import { ActionIcon, Group, Paper, useComputedColorScheme } from '@mantine/core';
import { IconArrowsMaximize, IconMinus, IconPlus } from '@tabler/icons-react';
import cytoscape, { type Core, type LayoutOptions, type StylesheetJson } from 'cytoscape';
import { useEffect, useRef } from 'react';
import { useTranslation } from 'react-i18next';
import type { Schema } from '../api';

// What a role looks like: shape beside colour, so that neither has to be seen alone.
const shapes: Record<string, cytoscape.Css.NodeShape> = { institution: 'round-rectangle', subject: 'round-rectangle', risk_item: 'diamond', intermediary: 'ellipse' };
const ring: Record<string, number> = { institution: 3, subject: 3, intermediary: 2, risk_item: 1 };

const few = 120;

/** Beyond some hundred nodes a simulation of forces takes seconds; rings take none. */
const layout = (nodes: number): LayoutOptions =>
  nodes <= few
    ? { name: 'cose', animate: false, randomize: false, nodeRepulsion: () => 90_000, idealEdgeLength: () => 90, padding: 24 }
    : { name: 'concentric', animate: false, concentric: (node) => ring[String(node.data('role'))] ?? 1, levelWidth: () => 1, minNodeSpacing: 4, padding: 24 };

function style(dark: boolean, many: boolean): StylesheetJson {
  const ink = dark ? '#e6e9ee' : '#1c2530';
  const line = dark ? '#8f99a6' : '#6b7684';
  const picked = dark ? '#ffd166' : '#b34700';
  const verdict = (name: string, colour: string) => ({ selector: `node[verdict = "${name}"]`, style: { 'background-color': colour } });
  return [
    { selector: 'node', style: { label: 'data(label)', shape: (n: cytoscape.NodeSingular) => shapes[String(n.data('role'))] ?? 'ellipse', 'background-color': '#1f6cc7', color: ink, 'font-size': 11, 'text-wrap': 'ellipsis', 'text-max-width': '140px', 'text-valign': 'bottom', 'text-margin-y': 4, 'min-zoomed-font-size': 7, width: 26, height: 26 } },
    { selector: 'node[role = "institution"], node[role = "subject"]', style: { width: 44, height: 34, 'font-weight': 'bold' } },
    verdict('direct', '#d6336c'),
    verdict('indirect', '#e8590c'),
    verdict('significant_mention', '#e0a100'),
    verdict('unknown', '#868e96'),
    verdict('no_evidence', '#2f9e44'),
    { selector: 'edge', style: { width: 'mapData(confidence, 0, 1, 1, 4)', 'line-color': line, 'curve-style': many ? 'haystack' : 'bezier', 'line-style': 'dashed', 'target-arrow-color': line } },
    { selector: 'edge[?verified]', style: { 'line-style': 'solid' } },
    { selector: 'edge[?directed]', style: { 'target-arrow-shape': 'triangle' } },
    { selector: '.gone', style: { display: 'none' } },
    { selector: ':selected', style: { 'line-color': picked, 'target-arrow-color': picked, 'border-width': 4, 'border-color': picked } },
  ] as StylesheetJson;
}

/** The whole graph is laid out once; shown tells which of it is seen. */
export function Graph({ graph, shown, picked, pick }: { graph: Schema<'Graph'>; shown: Set<string>; picked: string | null; pick: (id: string | null) => void }) {
  const { t } = useTranslation();
  const dark = useComputedColorScheme('light') === 'dark';
  const box = useRef<HTMLDivElement>(null);
  const core = useRef<Core>(null);
  const picks = useRef(pick);
  useEffect(() => {
    picks.current = pick;
  });
  useEffect(() => {
    if (!box.current) return;
    const many = graph.nodes.length > few;
    const cy = cytoscape({
      container: box.current,
      elements: [...graph.nodes.map((n) => ({ group: 'nodes' as const, data: { ...n } })), ...graph.edges.map((l) => ({ group: 'edges' as const, data: { ...l } }))],
      layout: layout(graph.nodes.length),
      minZoom: 0.05,
      maxZoom: 4,
      selectionType: 'single',
      hideEdgesOnViewport: many,
      textureOnViewport: many,
      ...(many ? { pixelRatio: 1 } : {}),
    });
    core.current = cy;
    cy.on('tap', (e) => picks.current(e.target === cy ? null : String((e.target as cytoscape.SingularElementArgument).id())));
    return () => {
      core.current = null;
      cy.destroy();
    };
  }, [graph]);
  useEffect(() => {
    core.current?.style(style(dark, graph.nodes.length > few));
  }, [dark, graph]);
  useEffect(() => {
    core.current?.batch(() => core.current?.elements().forEach((e) => void e.toggleClass('gone', !shown.has(e.id()))));
  }, [shown, graph]);
  useEffect(() => {
    const cy = core.current;
    if (!cy) return;
    cy.elements(':selected').unselect();
    if (picked) cy.getElementById(picked).select();
  }, [picked, graph]);
  const zoom = (by: number) => {
    const cy = core.current;
    cy?.zoom({ level: cy.zoom() * by, renderedPosition: { x: cy.width() / 2, y: cy.height() / 2 } });
  };
  return (
    <Paper withBorder pos="relative">
      <div ref={box} style={{ height: 420, overflow: 'hidden' }} role="img" aria-label={t('graph.picture', { count: graph.nodes.length, edges: graph.edges.length })} />
      <Group gap={4} pos="absolute" top={8} right={8}>
        <ActionIcon variant="default" aria-label={t('graph.in')} onClick={() => zoom(1.4)}>
          <IconPlus size={16} />
        </ActionIcon>
        <ActionIcon variant="default" aria-label={t('graph.out')} onClick={() => zoom(1 / 1.4)}>
          <IconMinus size={16} />
        </ActionIcon>
        <ActionIcon variant="default" aria-label={t('graph.fit')} onClick={() => core.current?.fit(undefined, 24)}>
          <IconArrowsMaximize size={16} />
        </ActionIcon>
      </Group>
    </Paper>
  );
}

/*
 * measure.js
 *		Looks at pictures as a browser has laid them out, and notes what is wrong.
 *
 * The page defines pictures, an array of [name, text of the SVG].  Each is put in
 * the page, measured, and taken out again.  The findings become the page's only
 * content, a line each:
 *
 *		name <tab> kind <tab> what
 *
 * A text or symbol names by data-in the box, by its data-box, that it belongs to.
 */
'use strict';

const SLACK = 0.5;		// pixels: what rounding does
const TEXT_CONTRAST = 4.5;	// as WCAG AA asks for
const SYMBOL_CONTRAST = 3;
const findings = [];

function describe(element)
{
	const words = element.textContent.trim().slice(0, 40);

	return element.tagName + ' "' + (words || element.getAttribute('href') ||
		element.getAttribute('class')) + '"';
}

function luminance(colour)
{
	const match = /^rgb\((\d+), (\d+), (\d+)\)$/.exec(colour);

	if (!match)
		return NaN;
	const [red, green, blue] = match.slice(1).map(number => {
		const part = number / 255;

		return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
	});
	return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(a, b)
{
	const one = luminance(a);
	const other = luminance(b);

	return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
}

function isInside(inner, outer, slack)
{
	return inner.left >= outer.left - slack && inner.right <= outer.right + slack &&
		inner.top >= outer.top - slack && inner.bottom <= outer.bottom + slack;
}

function overlap(a, b)
{
	return Math.min(a.right, b.right) - Math.max(a.left, b.left) > SLACK &&
		Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > SLACK;
}

// Every text and symbol lies in its box, and can be told from its ground.
function checkBoxes(svg, note)
{
	const boxes = new Map();

	for (const box of svg.querySelectorAll('[data-box]'))
		boxes.set(box.dataset.box, box);
	for (const element of svg.querySelectorAll('text, use'))
	{
		const box = boxes.get(element.dataset.in);

		if (!box)
		{
			note('orphan', describe(element));
			continue;
		}
		if (!isInside(element.getBoundingClientRect(), box.getBoundingClientRect(), SLACK))
			note('outside', describe(element));
		checkContrast(svg, element, box, note);
	}
}

function checkContrast(svg, element, box, note)
{
	const style = getComputedStyle(element);
	const colour = element.tagName === 'text' ? style.fill : style.color;
	const least = element.tagName === 'text' ? TEXT_CONTRAST : SYMBOL_CONTRAST;
	const grounds = [getComputedStyle(box).fill];

	// what is old is hatched
	if (box.classList.contains('aged'))
		grounds.push(getComputedStyle(svg.querySelector('.stripe')).stroke);
	for (const ground of grounds)
	{
		const found = contrast(colour, ground);

		if (!(found >= least))
			note('contrast', describe(element) + ' ' + colour + ' on ' + ground + ': ' +
				found.toFixed(2));
	}
}

// No two of them overlap.  Sorted by their upper edges, only neighbours can.
function checkOverlaps(elements, kind, note)
{
	const all = elements.map(element => ({ element, rect: element.getBoundingClientRect() }));

	all.sort((a, b) => a.rect.top - b.rect.top);
	for (let i = 0; i < all.length; i++)
		for (let j = i + 1; j < all.length && all[j].rect.top < all[i].rect.bottom; j++)
			if (overlap(all[i].rect, all[j].rect))
				note(kind, describe(all[i].element) + ' and ' + describe(all[j].element));
}

function checkEdges(svg, note)
{
	const edge = svg.getBoundingClientRect();

	for (const element of svg.querySelectorAll('rect, path, use, text'))
		if (!element.closest('defs') &&
			!isInside(element.getBoundingClientRect(), edge, 0))
			note('beyond', describe(element));
}

// Lines run between the cards, never over them.
function checkWires(svg, cards, note)
{
	const rects = cards.map(card => card.getBoundingClientRect());
	const origin = svg.getBoundingClientRect();

	for (const wire of svg.querySelectorAll('.wire'))
		for (let at = 0; at <= wire.getTotalLength(); at += 3)
		{
			const point = wire.getPointAtLength(at);
			const x = origin.left + point.x;
			const y = origin.top + point.y;

			if (rects.some(rect => x > rect.left + 1 && x < rect.right - 1 &&
				y > rect.top + 1 && y < rect.bottom - 1))
			{
				note('wire', 'a line crosses a card');
				break;
			}
		}
}

function checkXml(text, svg, note)
{
	const parsed = new DOMParser().parseFromString(text, 'image/svg+xml');

	if (parsed.querySelector('parsererror'))
		note('xml', parsed.querySelector('parsererror').textContent.slice(0, 200));
	else if (parsed.querySelectorAll('*').length !== svg.querySelectorAll('*').length + 1)
		note('xml', 'is another tree in HTML');
	for (const element of svg.querySelectorAll('script, foreignObject, image, a, [onload]'))
		note('foreign', describe(element));
}

function measure(name, text)
{
	const place = document.createElement('div');
	const note = (kind, what) => findings.push([name, kind, what.replace(/\s/g, ' ')]);

	place.style.width = '3000px';
	place.innerHTML = text;
	document.body.append(place);
	const svg = place.querySelector('svg');
	const cards = [...svg.querySelectorAll('rect.card[rx="8"]')];
	const pills = [...svg.querySelectorAll('rect.pill')];

	checkXml(text, svg, note);
	checkBoxes(svg, note);
	checkOverlaps([...svg.querySelectorAll('text, use')], 'overlap', note);
	checkOverlaps([...cards, ...pills], 'collision', note);
	checkEdges(svg, note);
	checkWires(svg, cards, note);
	findings.push([name, 'measured', [
		svg.querySelectorAll('text').length, 'texts,',
		svg.querySelectorAll('use').length, 'symbols,', cards.length, 'cards,',
		svg.querySelectorAll('.wire:not(.under)').length, 'lines'].join(' ')]);
	for (const element of svg.querySelectorAll('text'))
		findings.push([name, 'text', element.textContent]);
	place.remove();
}

for (const [name, text] of pictures)
	measure(name, text);
findings.push(['page', 'scheme',
	matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light']);
document.body.textContent = '';
document.body.append(Object.assign(document.createElement('pre'),
	{ textContent: findings.map(finding => finding.join('\t')).join('\n') }));

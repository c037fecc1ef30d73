"""What moves on the page: a cursor through all charts, and the panel that reads the frame under it.

Where a frame has several faces, the panel reads the track whose curve is nearest to the pointer, or
the one chosen by its buttons, and the curves of the others are set back. Plain DOM, no library;
without JavaScript the page still shows everything but the panel.
"""

SCRIPT = """
(function () {
  'use strict';
  var holder = document.getElementById('data'), panel = document.getElementById('panel');
  if (!holder || !panel) return;
  var data = JSON.parse(holder.textContent), at = {}, held = null, faces = {}, spans = {};
  document.body.classList.add('js');
  panel.hidden = false;
  data.columns.forEach(function (name, index) { at[name] = index; });
  data.rows.forEach(function (row) {
    var frame = row[at.frame], span = spans[row[at.track]] || [frame, frame];
    spans[row[at.track]] = [Math.min(span[0], frame), Math.max(span[1], frame)];
    (faces[frame] = faces[frame] || []).push(row);
  });
  function all(element, selector) {
    return Array.prototype.slice.call(element.querySelectorAll(selector));
  }
  var plots = all(document, '[data-plot]'), pairs = all(document, '.pair');
  var curves = all(document, '.curve').map(function (line) {
    var points = line.getAttribute('points').split(' ');
    points = points.map(function (point) { return point.split(',').map(Number); });
    return { line: line, plot: line.closest('[data-plot]'), track: +line.dataset.track,
             points: points };
  });
  var pictures = panel.querySelector('.images'), where = panel.querySelector('.where');
  var list = panel.querySelector('dl');
  var less = ['first_source', 'first_output', 'border_source', 'border_output'];

  function facesAt(frame) { return faces[frame] || []; }
  function rowOf(frame, track) {
    return facesAt(frame).filter(function (row) { return row[at.track] === track; })[0];
  }
  function rowAt(frame, track) { return rowOf(frame, track) || facesAt(frame)[0]; }
  function pairAt(frame, track) {
    var best = null, distance = Infinity;
    pairs.forEach(function (pair) {
      var d = Math.abs(pair.dataset.frame - frame);
      if (+pair.dataset.track === track && d < distance) { best = pair; distance = d; }
    });
    return best;
  }
  function trackAt(plot, frame, event) {
    var box = plot.getBoundingClientRect(), best = null, distance = Infinity;
    var x = (frame + 0.5) / data.frames * 1000, y = (event.clientY - box.top) / box.height * 100;
    curves.forEach(function (curve) {
      if (curve.plot !== plot || !rowOf(frame, curve.track)) return;
      curve.points.forEach(function (point) {
        var near = Math.abs(point[0] - x) <= data.every / data.frames * 1000;
        var d = Math.abs(point[1] - y);
        if (near && d < distance) { best = curve.track; distance = d; }
      });
    });
    return best === null && held ? held.track : best;
  }
  function text(tag, words, css) {
    var element = document.createElement(tag);
    element.textContent = words;
    if (css) element.className = css;
    return element;
  }
  function show(frame, track) {
    frame = Math.max(0, Math.min(data.frames - 1, frame));
    plots.forEach(function (plot) {
      var cursor = plot.querySelector('.cursor');
      cursor.style.display = 'block';
      cursor.style.left = (frame + 0.5) / data.frames * 100 + '%';
    });
    var row = rowAt(frame, track);
    panel.dataset.frame = frame;
    panel.dataset.track = row ? row[at.track] : '';
    tellTracks(frame, row);
    where.textContent = 'Frame ' + frame;
    list.textContent = '';
    pictures.textContent = '';
    if (!row) { where.appendChild(text('small', 'no face here')); return; }
    var pair = pairAt(frame, row[at.track]), words = row[at.seconds].toFixed(2) + ' s';
    if (data.many) words += ', track ' + row[at.track];
    if (row[at.reasons].length) words += ', ' + row[at.reasons].join(' and ');
    if (pair) {
      pair.querySelectorAll('img').forEach(function (image) {
        pictures.appendChild(image.cloneNode());
      });
      if (+pair.dataset.frame !== frame) words += ' (picture of frame ' + pair.dataset.frame + ')';
    }
    where.appendChild(text('small', words));
    Object.keys(data.labels).forEach(function (name) {
      var value = row[at[name]], css = less.indexOf(name) < 0 ? '' : 'less';
      list.appendChild(text('dt', data.labels[name], css));
      list.appendChild(text('dd', value === null ? '\\u2013' : value.toFixed(2), css));
    });
  }
  function tellTracks(frame, row) {
    switches.forEach(function (button) {
      var track = +button.dataset.track;
      button.hidden = !rowOf(frame, track);
      button.setAttribute('aria-pressed', !!row && row[at.track] === track);
    });
    var span = row && spans[row[at.track]];
    curves.forEach(function (curve) {
      var own = spans[curve.track];
      var beside = row && curve.track !== row[at.track] && own[0] <= span[1] && own[1] >= span[0];
      curve.line.classList.toggle('behind', !!beside);
    });
  }
  function hold(frame, track) {
    held = { frame: frame, track: track };
    show(frame, track);
    var row = rowAt(frame, track), pair = row && pairAt(frame, row[at.track]);
    pairs.forEach(function (other) { other.classList.toggle('held', other === pair); });
  }
  function frameOf(plot, event) {
    var box = plot.getBoundingClientRect();
    return Math.floor((event.clientX - box.left) / box.width * data.frames);
  }
  plots.forEach(function (plot) {
    plot.addEventListener('pointermove', function (event) {
      var frame = frameOf(plot, event);
      show(frame, trackAt(plot, frame, event));
    });
    plot.addEventListener('pointerleave', function () { if (held) show(held.frame, held.track); });
    plot.addEventListener('click', function (event) {
      var frame = frameOf(plot, event);
      hold(frame, trackAt(plot, frame, event));
    });
  });
  var switches = Object.keys(data.many ? spans : {}).map(function (track) {
    var button = text('button', 'track ' + track);
    button.dataset.track = track;
    button.addEventListener('click', function () { hold(+panel.dataset.frame, +track); });
    panel.querySelector('.tracks').appendChild(button);
    return button;
  });
  all(document, 'button[data-frame]').forEach(function (button) {
    button.addEventListener('click', function () {
      hold(+button.dataset.frame, +button.dataset.track);
      plots[0].closest('section').scrollIntoView();
    });
  });
  document.addEventListener('keydown', function (event) {
    var step = event.key === 'ArrowRight' ? 1 : event.key === 'ArrowLeft' ? -1 : 0;
    if (!step || !held) return;
    event.preventDefault();
    hold(Math.max(0, Math.min(data.frames - 1, held.frame + step)), held.track);
  });
  var first = document.querySelector('.chip[data-frame], .pair');
  if (first) hold(+first.dataset.frame, +first.dataset.track);
})();
"""
